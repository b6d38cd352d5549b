"""An upload in parts: several are on their way at once, in bounded memory.

One thread adds parts, and waits while there is no room for more. What any part fails with stops all
others, wakes who waits, and is raised there. A part that an earlier upload left, and that has the
same length and MD5, is not sent again.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from virtstore.backends.bucket import parts
from virtstore.backends.bucket.claims import RENEWED, Held
from virtstore.backends.bucket.connections import Body, body_of_chunks
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.values import Object, Part
from virtstore.errors import Interrupted, NoSpace, Unsupported
from virtstore.units import format_size

#: Parts that are on their way at once, and bytes in memory, beside the part that is being filled.
_AT_ONCE: Final = 6
_IN_MEMORY: Final = 96 << 20
#: Bytes of a part that are sent before it is looked whether to go on.
_PIECE: Final = 4 << 20
#: Where parts are kept that are too long for memory.
_LONG_PARTS: Final = "/var/tmp"


class Filling:
    """A part that is being filled: in memory, or in a file where it is long. `length`: bytes so
    far. One piece, so that threads that hash and send it need not wait for one another; and mapped,
    so that its room is given back when it was sent."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.length = 0
        if most <= parts.IN_MEMORY:
            self._bytes = mmap.mmap(-1, most)
            return
        try:
            with tempfile.TemporaryFile(dir=_LONG_PARTS, prefix="virtstore-") as file:
                os.posix_fallocate(file.fileno(), 0, most)
                self._bytes = mmap.mmap(file.fileno(), most)
        except OSError as error:
            raise NoSpace(
                f"an archive as long as this one is sent in parts of {format_size(most)}, for two"
                f" of which there has to be room in {_LONG_PARTS} ({error.strerror})"
            ) from None

    @property
    def in_memory(self) -> int:
        """Bytes that it counts for among those that wait in memory: of long parts one waits."""
        return min(self.length, _IN_MEMORY)

    def add(self, data: memoryview) -> None:
        self._bytes[self.length : self.length + len(data)] = data
        self.length += len(data)

    def body(self) -> Body:
        """All of it, to be sent. To hash it takes a while."""
        return body_of_chunks(self.length, self._pieces)

    def close(self) -> None:
        """Give the room back."""
        with suppress(BufferError):  # who failed to send it may have it still
            self._bytes.close()

    def _pieces(self) -> Iterator[memoryview]:
        with memoryview(self._bytes)[: self.length] as whole:
            for start in range(0, self.length, _PIECE):
                with whole[start : start + _PIECE] as piece:
                    yield piece


class Upload:
    """The parts of one upload of `key`, which exists. `there`: the parts that it has already."""

    def __init__(
        self, objects: Objects, key: str, upload: str, held: Held, there: Mapping[int, Part]
    ) -> None:
        self.id = upload
        self._objects = objects
        self._key = key
        self._held = held
        self._there = there
        self._done: dict[int, Part] = {}
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._waiting = 0  # parts
        self._bytes = 0
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload")
        self._renewing = threading.Thread(target=self._renew, name="claim", daemon=True)
        self._renewing.start()

    def send(self, number: int, filled: Filling) -> None:
        """Send a part, soon. Waits while there is no room for another. Raises what another part
        failed with."""

        def work() -> Part:
            try:
                body, there = filled.body(), self._there.get(number)
                if there and _is_like(there, body):
                    return there
                return self._sent(number, body)
            finally:
                filled.close()

        self._begin(number, filled.in_memory, work)

    def copy(self, number: int, source: Object, start: int, length: int, *, now: bool) -> None:
        """Make a range of another object a part, on the server. `now`: wait for it, so that an
        error that it cannot is raised here (`Unsupported`). One that could before, and cannot now,
        is sent the range."""

        def copied() -> Part:
            return self._objects.copy(self._key, self.id, number, source, start, length, self._stop)

        def work() -> Part:
            try:
                return copied()
            except Unsupported:
                return self._sent(number, self._objects.to_send(source, start, length))

        if now:
            self._raise()
            self._done[number] = copied()
        else:
            self._begin(number, 0, work)

    def finish(self) -> list[Part]:
        """Wait for all parts; they, in order. Raises what one failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not self._waiting)
        self._raise()
        return [self._done[number] for number in sorted(self._done)]

    def has_more_than(self, made: Sequence[Part]) -> bool:
        """Whether there were parts that are none of these."""
        return not set(self._there) <= {part.number for part in made}

    def stop(self) -> None:
        """Send nothing more, and wait until nothing is on its way."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._renewing.join()

    def _sent(self, number: int, body: Body) -> Part:
        """A part that was sent. On a slow way that takes long: it ends once all is to stop."""

        def chunks() -> Iterator[bytes | memoryview]:
            for chunk in body.chunks():
                if self._stop.is_set():
                    raise Interrupted("the upload was stopped")
                yield chunk

        whole = body._replace(chunks=chunks)
        return self._objects.send(self._key, self.id, number, whole, self._stop)

    def _begin(self, number: int, size: int, work: Callable[[], Part]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._has_room(size))
            self._raise()
            self._waiting += 1
            self._bytes += size
        self._pool.submit(self._work, number, size, work)

    def _has_room(self, size: int) -> bool:
        if not self._waiting:
            return True
        return self._waiting < _AT_ONCE + 2 and self._bytes + size <= _IN_MEMORY

    def _work(self, number: int, size: int, work: Callable[[], Part]) -> None:
        try:
            part = None if self._stop.is_set() else work()
        except BaseException as error:
            self._fail(error)
            return
        with self._changed:
            if part:
                self._done[number] = part
            self._waiting -= 1
            self._bytes -= size
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._stop.set()
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._failure:
            raise self._failure

    def _renew(self) -> None:
        """Write the claim again now and then, for as long as parts may come."""
        while not self._stop.wait(RENEWED):
            try:
                self._held.renew()
            except BaseException as error:
                self._fail(error)


def _is_like(part: Part, body: Body) -> bool:
    """Whether a part that is there has the bytes of a body."""
    return part.size == body.length and part.etag.strip('"') == b64decode(body.md5).hex()


def refuse_number(number: int) -> None:
    """Raises `Unsupported` for a part that no upload has."""
    if number > parts.MOST:
        raise Unsupported(
            f"an archive in a bucket has at most {parts.MOST} parts, and this one would have more;"
            " copy it to a directory"
        )
