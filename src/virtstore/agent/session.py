"""One client's session: its requests in, replies out, and the end of it noticed at once.

A thread reads frames into a short queue; another watches for the client's hang-up, which
must end an operation within seconds even while that operation reads no frame. What a
target has already is taken in at once, whatever the operation is doing: a source that waits
to be rid of its data while its target waits to be rid of its fingerprints would wait for ever.

Whatever a thread beside the operation fails with is the operation's own failure, which is told
wherever the operation waits or looks (`fail`): a thread that ended alone would leave both ends
waiting for what it was going to do.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from virtstore.channel import Channel
from virtstore.errors import ConnectionFailed, Interrupted, Unsupported
from virtstore.frames import Nonsense
from virtstore.progress import Stage
from virtstore.protocol import Existing, Frame, Message, Progressed, Unknown
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.units import format_size
from virtstore.version import __version__

#: Frames read ahead: at most so many chunks wait in memory.
_AHEAD: Final = 8
#: Seconds that an operation has to notice that its client has gone.
GRACE: Final = 3.0
#: Seconds between two reports of progress.
_REPORT: Final = 0.1


class Session:
    """The agent's end of a connection. `broken`: what a thread failed with without which there
    is no session; no further request is taken then."""

    def __init__(self, reading: int, writing: int) -> None:
        self.channel = Channel(reading, writing)
        self.broken: BaseException | None = None
        self._reading = reading
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._gone = threading.Event()
        self._failure: BaseException | None = None  # of the request that is being worked on
        self._waiting = False
        self._existing: Fingerprints | None = None
        self._reported = 0.0
        self._stage: Stage = "checking"
        self._far = (0, 0)
        self.tells_stages = False  # the client wants to know them
        self.client = ""  # its version
        #: Called a few times a second, by the thread that watches for the client's hang-up.
        self.now_and_then: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to listen. The client's hello has been read."""
        self.channel.keep_alive(self._break, busy=lambda: not self._waiting)
        for work in (self._read, self._watch):
            thread = threading.Thread(
                target=self._work, args=(work,), name=work.__name__, daemon=True
            )
            thread.start()

    def next(self) -> Frame | None:
        """The next request's frame; None once the client has gone, or the session is broken."""
        if self._existing:
            self._existing.close()  # of the last request; what still comes of them is left alone
        with self._changed:
            self._failure = self.broken
            self._wait()
            return None if self._gone.is_set() or self.broken else self._take()

    def expect(self) -> Frame:
        """The next frame of an operation that cannot go on without it. Raises what the operation
        failed with meanwhile, and `Unsupported`."""
        with self._changed:
            self._wait()
            self.check()
            frame = self._take()
        if isinstance(frame[0], Unknown):
            raise self.unsupported(frame[0])
        return frame

    def unsupported(self, message: Unknown) -> Unsupported:
        """The error for what this version does not wholly know: the rest may be what restricts
        it, so nothing of it is done."""
        return Unsupported(
            f"this host has virtstore {__version__}, which does not know {message.lacks}; virtstore"
            f" {self.client}, which asked for it, does. Nothing was done: install that version on"
            " the host, or do without"
        )

    def send(self, message: Message, payload: bytes = b"") -> None:
        if self._gone.is_set():
            raise Interrupted("the client went away")
        try:
            self.channel.send(message, payload)
        except ConnectionFailed:
            self.hang_up()
            raise Interrupted("the client went away") from None

    def check(self) -> None:
        """Raises `Interrupted` if the client has gone, or the error of another thread of the
        operation. Called in every loop that is long."""
        if self._gone.is_set():
            raise Interrupted("the client went away")
        if self._failure:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Note the error with which the present request has failed, from any thread."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        if self._existing:
            self._existing.close(error)

    def begin(self) -> None:
        """Begin with another request."""
        self._stage, self._far, self._reported = "checking", (0, 0), 0.0

    def stage(self, stage: Stage) -> None:
        """Tell the client the stage of the operation. Whether the client is still there is not
        looked at here."""
        if stage != self._stage or not self._reported:
            self._stage = stage
            if self.tells_stages:
                with suppress(Interrupted):
                    self._report(*self._far)

    @property
    def far(self) -> tuple[Stage, int, int]:
        """The stage of the operation, and how many bytes are done, of how many."""
        return self._stage, *self._far

    def reached(self, stage: Stage, done: int, total: int) -> None:
        """Note how far an operation is whose client sees that by itself."""
        self._stage, self._far = stage, (done, total)

    @property
    def how_far(self) -> str:
        """How far the operation is, for a log."""
        done, total = self._far
        text = f"{self._stage}, {format_size(done)} of {format_size(total)}"
        return text if total else self._stage

    def progress(self, done: int, total: int) -> None:
        """Tell the client how far an operation is, now and then."""
        self.check()
        self._far = (done, total)
        if time.monotonic() - self._reported >= _REPORT or done == total:
            self._report(done, total)

    def _report(self, done: int, total: int) -> None:
        self._reported = time.monotonic()
        self.send(Progressed(done, total, self._stage))

    def take_fingerprints(self, size: int) -> Fingerprints:
        """The fingerprints of a target of `size` bytes, to be filled as they arrive."""
        self._existing = Fingerprints(size)
        return self._existing

    def _wait(self) -> None:
        self._waiting = True
        self._changed.wait_for(lambda: self._frames or self._failure or self._gone.is_set())
        self._waiting = False

    def _take(self) -> Frame:
        self._changed.notify_all()  # there is room
        return self._frames.popleft()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        self.broken = error
        self.fail(error)

    def _read(self) -> None:
        try:
            while (frame := self.channel.receive()) is not None and not self._gone.is_set():
                if isinstance(frame[0], Existing):
                    self._learn(frame[0], frame[1])
                else:
                    self._put(frame)
        except Nonsense:
            raise  # the client is there, and can be told
        except (ConnectionFailed, Interrupted):
            pass
        self.hang_up()

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._frames) < _AHEAD or self._gone.is_set())
            self._frames.append(frame)
            self._changed.notify_all()

    def _learn(self, message: Existing, payload: bytes) -> None:
        if self._existing is None:
            raise Nonsense("fingerprints came that nobody had asked for")
        if self._existing.closed:
            return
        try:
            self._existing.add(payload, message.zeros)
        except ValueError as error:
            raise Nonsense(f"what was told of the target makes no sense: {error}") from None
        if message.last:
            self._existing.finish()

    def _watch(self) -> None:
        """End the process when the client has gone and its operation does not end by itself:
        it may be writing to a full pipe or waiting for a disk. What it leaves is what a
        crash would leave, and every operation is made to stand that."""
        poll = select.poll()
        poll.register(self._reading, select.POLLRDHUP)  # POLLHUP is always reported
        while not self._gone.is_set():
            if poll.poll(500):
                self.hang_up()
            else:
                self.now_and_then()
        time.sleep(GRACE)
        os._exit(1)

    def hang_up(self) -> None:
        """End the session as if the client had gone."""
        self._gone.set()
        with self._changed:
            self._changed.notify_all()  # wakes an operation that waits for a frame
        if self._existing:
            self._existing.close()
