"""What a copy is going to read of something far away, fetched ahead of it.

Most of what a read takes is the way there and back, and several reads share that. A copy tells
where it is going to read (`transfer.page_cache.Reading` asks for that part of the page cache).
Blocks before that are fetched by several threads. What is kept is bounded: so many blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from virtstore.backends.base import PageCache
from virtstore.model import Extent

#: Gives a range: its first byte, and how many.
Fetch = Callable[[int, int], bytes]

#: Bytes.
BLOCK: Final = 4 << 20
#: Blocks that are kept, or on their way: what a copy announces, and what its threads still read.
_KEPT: Final = 12
_THREADS: Final = 4


class ReadAhead(PageCache):
    """Something of `size` bytes. As a page cache it is told what is read next."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._lock = threading.Lock()
        self._blocks: dict[int, Future[bytes]] = {}
        self._next = 0  # the block that is fetched ahead next
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._empty: bytearray | None = None  # for each block, whether it has no data

    @property
    def begun(self) -> bool:
        """Whether anything was fetched ahead."""
        return self._pool is not None

    def expect(self, extents: Iterable[Extent]) -> None:
        """Fetch only blocks with data ahead from now on. `extents`: all, in order."""
        empty = bytearray(b"\1") * -(-self._size // BLOCK)
        for extent in extents:
            if extent.kind != "zero":
                first, behind = extent.offset // BLOCK, -(-extent.end // BLOCK)
                empty[first:behind] = bytes(len(empty[first:behind]))
        self._empty = empty

    def read(self, offset: int, length: int) -> bytes:
        """The range, as far as there is any."""
        end = min(offset + length, self._size)
        found = []
        while offset < end:
            block = self._block(offset // BLOCK)
            if block is None:  # all that is left of it, at once
                found.append(self._fetch(offset, end - offset))
                break
            begin = offset % BLOCK
            found.append(block[begin : begin + end - offset])
            offset += BLOCK - begin
        return found[0] if len(found) == 1 else b"".join(found)

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        """See `PageCache`. Who begins at the start fetches nothing ahead: every reader does, also
        who wants to know only what it is."""
        if offset:
            self._fetch_ahead(min(offset + length, self._size))
        else:
            self._begin_again()
        return []

    def close(self) -> None:
        """Wait for what is being fetched. Nothing is fetched ahead any more."""
        with self._lock:
            self._closed = True
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._blocks.clear()

    def _begin_again(self) -> None:
        with self._lock:
            for future in self._blocks.values():
                future.cancel()
            self._blocks.clear()
            self._next = 0

    def _fetch_ahead(self, until: int) -> None:
        with self._lock:
            if self._closed:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="blocks")
            self._next = max(self._next, (until - _KEPT * BLOCK) // BLOCK)
            while self._next * BLOCK < until:
                if self._empty is None or not self._empty[self._next]:
                    start = self._next * BLOCK
                    length = min(BLOCK, self._size - start)
                    self._blocks[self._next] = self._pool.submit(self._fetch, start, length)
                self._next += 1
            for number in sorted(self._blocks)[:-_KEPT]:
                self._blocks.pop(number).cancel()

    def _block(self, number: int) -> bytes | None:
        with self._lock:
            future = self._blocks.get(number)
        with suppress(CancelledError):  # it was let go of meanwhile
            return future.result() if future else None
        return None
