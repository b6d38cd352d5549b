"""An image that is open on its host, to be read at any offset.

What is asked is answered in turn, so several questions may be under way at once: whoever asks and
whoever takes the answers may be two threads. A host is believed what its image holds, and no more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from virtstore.client.answers import out_of_order, refuse_absurd, require
from virtstore.client.connection import Connection
from virtstore.errors import Error, from_code
from virtstore.location import canonical
from virtstore.protocol import (
    AnyMessage,
    Begin,
    Closed,
    CloseImage,
    Data,
    MapRange,
    OpenImage,
    Progressed,
    Ranges,
    ReadRange,
    Unreadable,
    Zero,
)

#: What can be asked of it.
Question = ReadRange | MapRange
#: The bytes of a range, None for zeros; where it is zeros; or why it cannot be read.
Answer = bytes | None | Ranges | Error


class OpenedImage:
    """An image, through a session that serves nothing else and that the caller closes."""

    def __init__(
        self, session: Connection, request: OpenImage, heard: Callable[[Progressed], None]
    ) -> None:
        """Raises what the host refuses."""
        self._session = session
        self._asked: deque[Question | CloseImage] = deque()
        self._lock = threading.Lock()
        session.heard, session.may_write = heard, False
        session.send(request)
        begin, _ = session.receive()
        if not isinstance(begin, Begin):
            raise out_of_order(begin, session.name)
        refuse_absurd(begin, session.name)
        wanted = canonical(request.path)
        require(begin.path == wanted, f"{wanted} is {begin.path}", session.name)
        require(begin.size > 0, "an image has no bytes", session.name)
        session.owed = False
        self.path, self.size, self.warnings = begin.path, begin.size, begin.warnings

    def ask(self, question: Question | CloseImage) -> None:
        """Raises `ConnectionFailed`."""
        with self._lock:
            self._asked.append(question)
            self._session.owed = True
        self._session.send(question)

    def answer(self) -> tuple[Question, Answer] | Closed:
        """The answer to the question that was asked first of those that have none yet; it is waited
        for, and so is the question. Raises `ConnectionFailed`, `Untrue`."""
        message, payload = self._session.receive()
        with self._lock:
            asked = self._asked[0] if self._asked else None
        found = self._checked(asked, message, payload)
        with self._lock:  # not before: what is not answered is told so
            self._asked.popleft()
            self._session.owed = bool(self._asked)
        return found

    def _checked(
        self, asked: Question | CloseImage | None, message: AnyMessage, payload: bytes
    ) -> tuple[Question, Answer] | Closed:
        """A message as the answer to a question."""
        refuse_absurd(message, self._session.name)
        match asked, message:
            case CloseImage(), Closed():
                return message
            case ReadRange() | MapRange(), Unreadable():
                self._require(asked, message.offset, message.length)
                return asked, self._unreadable(message)
            case ReadRange(), Data(raw=True):
                self._require(asked, message.offset, message.length, len(payload))
                return asked, payload
            case ReadRange(), Zero():
                self._require(asked, message.offset, message.length)
                return asked, None
            case MapRange(), Ranges():
                self._require_runs(asked, message)
                return asked, message
            case _:
                raise out_of_order(message, self._session.name)

    def unanswered(self) -> list[Question]:
        """The questions to which no answer will come, as the session has failed."""
        with self._lock:
            asked, self._asked = self._asked, deque()
        return [each for each in asked if not isinstance(each, CloseImage)]

    def _unreadable(self, message: Unreadable) -> Error:
        text = f"{message.length} bytes at byte {message.offset} cannot be read: {message.message}"
        return from_code(message.code, text, host=self._session.name, path=self.path)

    def _require(self, asked: Question, offset: int, *lengths: int) -> None:
        same = offset == asked.offset and all(length == asked.length for length in lengths)
        told = f"{asked.length} bytes at {asked.offset} are {lengths[-1]} at {offset}"
        require(same, told, self._session.name)

    def _require_runs(self, asked: MapRange, told: Ranges) -> None:
        lengths = [length for length, _ in told.runs]
        fits = told.offset == asked.offset and lengths and min(lengths) > 0
        what = f"the {asked.length} bytes at {asked.offset} are runs of {sum(lengths)}"
        require(bool(fits) and sum(lengths) <= asked.length, what, self._session.name)
