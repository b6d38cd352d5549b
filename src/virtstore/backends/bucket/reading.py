"""Ranges of an object, as few and as large as whoever reads it is served by.

- The end is fetched at once when something of it is read: an archive's digests and seek table lie
  there. Where they are longer, whoever reads them backwards is given all between.
- The beginning, the same.
- A copy tells where it is going to read (`transfer.page_cache.Reading` asks for that part of the
  page cache). Blocks before that are fetched by several threads, ahead of it.
- Anything else is fetched as it is asked for.

All is bounded: the end, and so many blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from virtstore.backends.base import PageCache

#: Gives a range: its first byte, and how many.
Fetch = Callable[[int, int], bytes]

_HEAD: Final = 64 << 10
_TAIL: Final = 256 << 10
#: The most that is fetched backwards from there: the digests of an image of 350 GiB.
_LONGEST_TAIL: Final = 16 << 20
_BLOCK: Final = 4 << 20
#: Blocks that are kept, or on their way: what a copy announces, and what its threads still read.
_BLOCKS: Final = 12
_THREADS: Final = 4


class Ranges(PageCache):
    """An object of `size` bytes. As a page cache it is told what is read next."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._lock = threading.Lock()
        self._head = b""
        self._tail = b""
        self._blocks: dict[int, Future[bytes]] = {}
        self._next = 0  # the block that is fetched ahead next
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._blocks.clear()

    def read(self, offset: int, length: int) -> bytes:
        """The range, as far as the object goes."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        if end <= min(_HEAD, self._size):
            return self._of_head()[offset:end]
        if (data := self._of_tail(offset, end)) is not None:
            return data
        found = []
        while offset < end:
            stop = min(end, (offset // _BLOCK + 1) * _BLOCK)
            block = self._block(offset // _BLOCK)
            if block is None:  # all that is left of it, at once
                found.append(self._fetch(offset, end - offset))
                break
            begin = offset % _BLOCK
            found.append(block[begin : begin + stop - offset])
            offset = stop
        return found[0] if len(found) == 1 else b"".join(found)

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        """See `PageCache`. The first call tells nothing: every reader begins at the start."""
        if offset:
            self._fetch_ahead(min(offset + length, self._size))
        return []

    def _of_head(self) -> bytes:
        with self._lock:
            if not self._head:
                self._head = self._fetch(0, min(_HEAD, self._size))
            return self._head

    def _of_tail(self, offset: int, end: int) -> bytes | None:
        """A range, if it lies in what is kept of the end, or is to be kept."""
        with self._lock:
            begin = self._size - len(self._tail)
            if not self._tail and offset >= self._size - _TAIL:
                begin = max(self._size - _TAIL, 0)
                self._tail = self._fetch(begin, self._size - begin)
            elif self._tail and end <= begin and self._is_read_backwards(offset):
                first = max(offset - _TAIL // 4, 0)
                self._tail = self._fetch(first, begin - first) + self._tail
                begin = first
            if offset < begin or not self._tail:
                return None
            return self._tail[offset - begin : end - begin]

    def _is_read_backwards(self, offset: int) -> bool:
        """Whether what is read lies before the end that is kept, and belongs to it in all
        likelihood: no block was announced yet."""
        return self._pool is None and self._size - offset <= _LONGEST_TAIL

    def _fetch_ahead(self, until: int) -> None:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ranges")
                self._next = max(until - _BLOCKS * _BLOCK, 0) // _BLOCK
            while self._next * _BLOCK < until:
                start = self._next * _BLOCK
                length = min(_BLOCK, self._size - start)
                self._blocks[self._next] = self._pool.submit(self._fetch, start, length)
                self._next += 1
            for number in sorted(self._blocks)[:-_BLOCKS]:
                self._blocks.pop(number).cancel()

    def _block(self, number: int) -> bytes | None:
        with self._lock:
            future = self._blocks.get(number)
        with suppress(CancelledError):  # it was let go of meanwhile
            return future.result() if future else None
        return None
