"""Ranges of an object, as few and as large as whoever reads it is served by.

- The end is fetched at once when something of it is read: an archive's digests and seek table lie
  there. Where they are longer, whoever reads them backwards is given all between.
- The beginning, the same.
- What a copy is going to read is fetched ahead of it (read_ahead.py).
- Anything else is fetched as it is asked for.

All is bounded: the end, and so many blocks.
"""

from __future__ import annotations

import threading
from typing import Final

from virtstore.backends.base import PageCache
from virtstore.backends.read_ahead import Fetch, ReadAhead

_HEAD: Final = 64 << 10
_TAIL: Final = 256 << 10
#: The most that is fetched backwards from there: the digests of an image of 350 GiB.
_LONGEST_TAIL: Final = 16 << 20


class Ranges(PageCache):
    """An object of `size` bytes. As a page cache it is told what is read next."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._lock = threading.Lock()
        self._head = b""
        self._tail = b""
        self._ahead = ReadAhead(size, fetch)

    def close(self) -> None:
        self._ahead.close()

    def read(self, offset: int, length: int) -> bytes:
        """The range, as far as the object goes."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        if end <= min(_HEAD, self._size):
            return self._of_head()[offset:end]
        if (data := self._of_tail(offset, end)) is not None:
            return data
        return self._ahead.read(offset, end - offset)

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        """See `PageCache`."""
        return self._ahead.not_cached(offset, length)

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
        return not self._ahead.begun and self._size - offset <= _LONGEST_TAIL
