"""An image that is served to the programs of this machine as NBD, wherever it lies.

Two threads pass on what nbdkit asks to the image's host, and what the host answers to nbdkit. What
the host cannot read is an input/output error for who asked; why, is told here. The same is
all that is read once the host has gone.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from socket import MSG_WAITALL
from typing import Final, Protocol, Self

from virtstore.client.connection import Connection
from virtstore.client.nbdkit import Nbdkit
from virtstore.client.opened import Answer, OpenedImage, Question
from virtstore.digest import CHUNK
from virtstore.errors import Error, spelled
from virtstore.model import Exported
from virtstore.protocol import (
    Closed,
    CloseImage,
    MapRange,
    OpenImage,
    Progressed,
    Ranges,
    ReadRange,
)

#: See nbdkit_plugin.
_QUESTION: Final = struct.Struct(">cQI")
_PART: Final = struct.Struct(">cII")
_RUN: Final = struct.Struct(">I?")

#: Seconds that the host has for its last word.
_PATIENCE: Final = 5.0

#: Gets each failure to read, and what ended it all; from a thread of the export's.
Complain = Callable[[Error], None]


def nobody(error: Error) -> None:
    """Tells nobody."""


class Export(Protocol):
    """An image that is served for as long as this is open; leaving its context ends that, whoever
    is connected. It is read-only, and any number of clients may read it at the same time."""

    @property
    def uri(self) -> str:
        """What NBD clients take."""
        ...

    @property
    def socket(self) -> str:
        """The path of the unix socket in `uri`."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the image."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a command may want: `uri`, `unixsocket` and `nbd`, as nbdkit has
        them."""
        ...

    @property
    def result(self) -> Exported:
        """What is served, and where."""
        ...

    def wait(self) -> Error | None:
        """Why nothing is served any more, once that is so; None if it was closed."""
        ...

    def close(self) -> tuple[str, ...]:
        """Serve it no more. Returns what there is to say of what was read. May be called twice."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Served(Export):
    """An image of a host that is served here by nbdkit."""

    def __init__(
        self,
        session: Connection,
        request: OpenImage,
        heard: Callable[[Progressed], None],
        *,
        socket: str | None = None,
        complain: Complain = nobody,
        verbose: bool = False,
    ) -> None:
        """Takes over the session, which it closes. Raises what the host refuses, and `Unsupported`
        where there is no nbdkit here."""
        self._session = session
        self._complain = complain
        self._told = ""
        self._lock = threading.Lock()
        self._failure: Error | None = None
        self._closed = False
        self._ended = threading.Event()
        self._left: Closed | None = None
        self._asking = threading.Thread(target=self._ask, name="export, asking", daemon=True)
        self._answering = threading.Thread(target=self._answer, name="export", daemon=True)
        with ExitStack() as opened:
            opened.callback(session.close)
            self._image = OpenedImage(session, request, heard)
            self._nbdkit = Nbdkit(self._image.size, socket, verbose=verbose)
            opened.callback(self._nbdkit.close)
            self._answering.start()
            self._asking.start()
            opened.pop_all()

    @property
    def uri(self) -> str:
        return self._nbdkit.uri

    @property
    def socket(self) -> str:
        return self._nbdkit.path

    @property
    def size(self) -> int:
        return self._image.size

    @property
    def result(self) -> Exported:
        name, image = self._session.name, self._image
        source = spelled(name, image.path)
        return Exported(source, self.uri, self.socket, image.size, image.warnings)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "uri": self.uri,
            "unixsocket": self.socket,
            "nbd": f"nbd:unix:{self.socket}",
        }

    def wait(self) -> Error | None:
        self._ended.wait()
        return self._failure

    def close(self) -> tuple[str, ...]:
        if self._closed:
            return self._left.warnings if self._left else ()
        self._closed = True
        self._nbdkit.close()
        if not self._failure:
            with suppress(Error):
                self._image.ask(CloseImage())
            self._answering.join(_PATIENCE)
        self._session.close()
        for thread in (self._asking, self._answering):
            thread.join(_PATIENCE)
        self._ended.set()
        return self._left.warnings if self._left else ()

    def _ask(self) -> None:
        """Pass on nbdkit's questions, until it has gone or is to go."""
        with suppress(OSError):
            asked = self._nbdkit.questions
            while len(head := asked.recv(_QUESTION.size, MSG_WAITALL)) == _QUESTION.size:
                for question in _questions(head):
                    self._pass_on(question)
        if not self._closed and not self._failure:
            self._fail(Error(f"nothing is served any more: {self._nbdkit.wait()}"))
        self._ended.set()

    def _pass_on(self, question: Question) -> None:
        with self._lock:
            if self._failure:
                self._reply(question, self._failure)
                return
            with suppress(Error):  # who waits for answers notices that as well
                self._image.ask(question)

    def _answer(self) -> None:
        """Pass on the host's answers, until it has gone or said the last one."""
        try:
            while not isinstance(answer := self._image.answer(), Closed):
                question, found = answer
                if isinstance(found, Error):
                    self._tell(found)
                self._reply(question, found)
            self._left = answer
        except BaseException as error:
            if self._closed:
                return
            gone = error if isinstance(error, Error) else Error(f"a defect: {error!r}")
            self._session.end()  # whoever is sending to it notices
            with self._lock:
                self._fail(gone)
                for question in self._image.unanswered():
                    self._reply(question, gone)

    def _fail(self, error: Error) -> None:
        if not self._failure:
            self._failure = error
            self._complain(error)
        self._ended.set()

    def _tell(self, error: Error) -> None:
        """Tell of a range that cannot be read; once, if it is asked for again and again."""
        if str(error) != self._told:
            self._told = str(error)
            self._complain(error)

    def _reply(self, question: Question, answer: Answer) -> None:
        with suppress(OSError):  # nbdkit has gone, which is noticed by who takes its questions
            for part in _parts(question, answer):
                self._nbdkit.questions.sendall(part)


def _questions(head: bytes) -> Iterator[Question]:
    """What nbdkit asks, a chunk at a time."""
    kind, offset, length = _QUESTION.unpack(head)
    if kind in b"mo":
        yield MapRange(offset, length, one=kind == b"o")
        return
    end = offset + length
    while offset < end:
        stop = min(end, (offset // CHUNK + 1) * CHUNK)
        yield ReadRange(offset, stop - offset)
        offset = stop


def _parts(question: Question, answer: Answer) -> Iterator[bytes]:
    """The answer to a question, as nbdkit_plugin takes it."""
    if isinstance(answer, bytes):
        yield _PART.pack(b"d", question.length, len(answer))
        yield answer
    elif isinstance(answer, Ranges):
        runs = b"".join(_RUN.pack(*run) for run in answer.runs)
        yield _PART.pack(b"m", question.length, len(runs)) + runs
    else:
        yield _PART.pack(b"z" if answer is None else b"e", question.length, 0)
