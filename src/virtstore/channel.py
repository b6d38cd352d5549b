"""Frames over two descriptors: what a client and an agent share of a connection.

Each side sends `Alive` while it has nothing to say and takes a peer that is silent for
longer than `SILENCE` for gone. Sending is whole frames from any thread; receiving is for
one thread at a time.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from virtstore.errors import ConnectionFailed
from virtstore.frames import encode, read_frame
from virtstore.protocol import HEARTBEAT, SILENCE, Alive, Frame, Message

_PIPE_SIZE: Final = 1 << 20  # /proc/sys/fs/pipe-max-size, by default


class Channel:
    """One end of a session. `close` closes the descriptor that it writes to; the other is the
    caller's."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.received = 0  # bytes of payload
        self.said = 0  # bytes up to the end of the last frame that was more than `Alive`
        self._sent = 0
        self._heard = 0  # bytes, of whatever kind
        for fd in (reading, writing):
            with suppress(OSError):  # not a pipe, or no more is allowed: merely slower
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    @property
    def is_closed(self) -> bool:
        """Whether the session was ended from this side."""
        return self._closed.is_set()

    def keep_alive(
        self, failed: Callable[[BaseException], None], busy: Callable[[], bool] = lambda: False
    ) -> None:
        """Begin to send `Alive`, until the channel is closed or breaks. `failed` gets what else
        ends that; `busy` tells what `Alive.busy` is to say."""
        beat = threading.Thread(
            target=self._beat, args=(failed, busy), name="heartbeat", daemon=True
        )
        beat.start()

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Raises `ConnectionFailed` if the peer has gone."""
        try:
            with self._lock:
                if self._closed.is_set():  # the number may be another file's by now
                    raise ConnectionFailed("the session was closed")
                head = encode(message, len(payload))
                self._sent += len(head) + len(payload)
                if not isinstance(message, Alive):
                    self.said = self._sent
                _write_all(self._writing, head, payload)
        except OSError as error:
            raise ConnectionFailed(f"the connection broke: {error.strerror}") from None

    def receive(self, alive: Callable[[Alive], None] = lambda _: None) -> Frame | None:
        """The next frame that is more than `Alive`, which `alive` gets; None where the peer has
        ended the session. Raises `ConnectionFailed`, and what `alive` raises."""
        while True:
            frame = read_frame(self.read)
            if frame is None or not isinstance(frame[0], Alive):
                self.received += len(frame[1]) if frame else 0
                return frame
            alive(frame[0])

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer only where the peer has ended the session."""
        parts: list[bytes] = []
        missing = count
        while missing and (part := self._read_some(missing)):
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def rest(self, most: int, seconds: float) -> bytes:
        """What more comes within so many seconds, of a peer that is not to be understood."""
        data, deadline = b"", time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        while len(data) < most and (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000) or not (more := os.read(self._reading, most)):
                break
            data += more
        return data

    def close(self) -> None:
        """End the session; the peer sees its input end."""
        if not self._closed.is_set():
            self._closed.set()
            # Not under a sender's feet; but a sender that is stuck must not keep us.
            ours = self._lock.acquire(timeout=1)
            with suppress(OSError):
                os.close(self._writing)
            if ours:
                self._lock.release()

    def _read_some(self, count: int) -> bytes:
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        if not poll.poll(SILENCE * 1000):
            raise ConnectionFailed(f"nothing was heard for {SILENCE:.0f} s: the peer is gone")
        try:
            data = os.read(self._reading, count)
            self._heard += len(data)
            return data
        except OSError as error:
            raise ConnectionFailed(f"the connection broke: {error.strerror}") from None

    def _beat(self, failed: Callable[[BaseException], None], busy: Callable[[], bool]) -> None:
        try:
            while not self._closed.wait(HEARTBEAT):
                self.send(Alive(busy(), self._heard))
        except ConnectionFailed:
            return  # who reads or writes notices that as well
        except BaseException as error:
            failed(error)


def _write_all(fd: int, head: bytes, payload: bytes) -> None:
    waiting = [memoryview(head), memoryview(payload)] if payload else [memoryview(head)]
    while waiting:
        count = os.writev(fd, waiting)
        while waiting and count >= len(waiting[0]):
            count -= len(waiting.pop(0))
        if waiting:
            waiting[0] = waiting[0][count:]
