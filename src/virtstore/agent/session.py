"""One client's session: its requests in, replies out, and the end of it noticed at once.

A thread reads frames into a short queue; another watches for the client's hang-up, which
must end an operation within seconds even while that operation reads no frame. What a
target has already is taken in at once, whatever the operation is doing: a source that waits
to be rid of its data while its target waits to be rid of its fingerprints would wait for ever.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from contextlib import suppress
from typing import Final

from virtstore.channel import Channel
from virtstore.errors import ConnectionFailed, Interrupted
from virtstore.progress import Stage
from virtstore.protocol import AnyMessage, Existing, Frame, Progressed
from virtstore.transfer.compare import Fingerprints
from virtstore.units import format_size

#: Frames read ahead: at most so many chunks wait in memory.
_AHEAD: Final = 8
#: Seconds that an operation has to notice that its client has gone.
GRACE: Final = 3.0
#: Seconds between two reports of progress.
_REPORT: Final = 0.1


class Session:
    """The agent's end of a connection."""

    def __init__(self, reading: int, writing: int) -> None:
        self.channel = Channel(reading, writing)
        self._reading = reading
        self._queue: queue.Queue[Frame | None] = queue.Queue(_AHEAD)
        self._gone = threading.Event()
        self._existing: Fingerprints | None = None
        self._reported = 0.0
        self._stage: Stage = "checking"
        self._far = (0, 0)
        self.tells_stages = False  # the client wants to know them

    def start(self) -> None:
        """Begin to listen. The client's hello has been read."""
        self.channel.keep_alive()
        for work in (self._read, self._watch):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def next(self) -> Frame | None:
        """The next frame; None once the client has gone."""
        frame = None if self._gone.is_set() else self._queue.get()
        return None if self._gone.is_set() else frame

    def expect(self) -> Frame:
        """The next frame of an operation that cannot go on without it."""
        frame = self.next()
        if frame is None:
            raise Interrupted("the client went away")
        return frame

    def send(self, message: AnyMessage, payload: bytes = b"") -> None:
        self.check()
        try:
            self.channel.send(message, payload)
        except ConnectionFailed:
            self.hang_up()
            raise Interrupted("the client went away") from None

    def check(self) -> None:
        """Raises `Interrupted` if the client has gone: called in every loop that is long."""
        if self._gone.is_set():
            raise Interrupted("the client went away")

    def begin(self) -> None:
        """Another request begins."""
        self._stage, self._far, self._reported = "checking", (0, 0), 0.0

    def stage(self, stage: Stage) -> None:
        """Tell the client what the operation is at from now on; whether it is there still is
        looked at elsewhere."""
        if stage != self._stage or not self._reported:
            self._stage = stage
            if self.tells_stages:
                with suppress(Interrupted):
                    self._report(*self._far)

    @property
    def how_far(self) -> str:
        """For a log."""
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
        """Where those of a target of `size` bytes will be found as they arrive."""
        self._existing = Fingerprints(size)
        return self._existing

    def _read(self) -> None:
        try:
            while (frame := self.channel.receive()) is not None:
                if isinstance(frame[0], Existing):
                    self._learn(frame[0], frame[1])
                else:
                    self._queue.put(frame)
        except (ConnectionFailed, Interrupted, ValueError):
            pass
        finally:
            self.hang_up()

    def _learn(self, message: Existing, payload: bytes) -> None:
        if self._existing is None:
            raise ValueError("fingerprints that nobody asked for")
        self._existing.add(payload, message.zeros)
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
        time.sleep(GRACE)
        os._exit(1)

    def hang_up(self) -> None:
        """As if the client had gone."""
        self._gone.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes an operation that waits for a frame
        if self._existing:
            self._existing.close()
