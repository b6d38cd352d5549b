"""Passing through an image once, without leaving it in the host's page cache.

A busy host's memory holds what its guests read again and again; a copy reads or writes each
byte once. So what was not cached before is let go of again soon after it was read, or
written and on the disk; what was cached stays.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from virtstore.backends.base import Handle, Readable

#: Bytes behind the one that is read now that some thread may still be reading.
_BEHIND: Final = 16 << 20
#: Bytes before it that the kernel may have read ahead: what is cached there tells nothing.
_AHEAD: Final = 32 << 20
#: Bytes that are let go of at once, and of a piece of the cache that may lie across two ranges.
_STEP: Final = 8 << 20
_FOLIO: Final = 2 << 20
#: Bytes that are on their way to the disk while the next ones are written: what a flush at
#: the end of a copy, which nothing can interrupt, has to wait for at the most.
_WINDOW: Final = 32 << 20


class _Run(msgspec.Struct):
    """Bytes of an image from `start` up to `end`."""

    start: int
    end: int


class Reading:
    """Lets go of what a copy has read of an image. One thread announces what is read next; any
    thread may read it."""

    def __init__(self, image: Readable) -> None:
        self._cache = image.cache
        self._seen = 0  # what lies before it was looked at
        self._absent: deque[_Run] = deque()  # what was not cached then

    def next(self, offset: int, length: int) -> None:
        """Announce that a range is going to be read. The cache lets go of what lies far enough
        before it."""
        self._let_go(offset - _BEHIND)
        start, end = max(self._seen, offset), offset + length + _AHEAD
        if start >= end:
            return
        self._seen = end
        for begin, count in self._cache.not_cached(start, end - start):
            if self._absent and self._absent[-1].end >= begin:  # whole pages: they may overlap
                self._absent[-1].end = begin + count
            else:
                self._absent.append(_Run(begin, begin + count))

    def end(self) -> None:
        """Let go of the rest: everything was read. What is announced from now on is a new passage
        from the image's start."""
        for run in self._absent:
            self._cache.let_go(run.start, run.end - run.start)
        self._absent.clear()
        self._seen = 0

    def _let_go(self, before: int) -> None:
        while self._absent and self._absent[0].start < before:
            run = self._absent[0]
            if run.end <= before:
                self._cache.let_go(run.start, run.end - run.start)
                self._absent.popleft()
                continue
            if before - run.start >= _STEP:
                self._cache.let_go(run.start, before - run.start)
                run.start = before - _FOLIO
            return


class ReadThrough:
    """An archive that one thread reads from start to end, without announcing anything."""

    def __init__(self, image: Readable, reading: Reading) -> None:
        self._image = image
        self._reading = reading
        self._told = 0
        self.size = image.size

    def read_at(self, offset: int, length: int) -> bytes:
        """See `formats.base.ArchiveSource`."""
        if offset + length > self._told:
            self._reading.next(offset, length)
            self._told = offset + length
        return self._image.read_at(offset, length)


class Writing:
    """Has a draft's bytes written to the disk while the copy goes on, and lets go of them then. One
    thread tells what was written, in the draft's order."""

    def __init__(self, draft: Handle) -> None:
        self._cache = draft.cache
        self._begun = 0
        self._newer: deque[tuple[int, int]] = deque()
        self._older: deque[tuple[int, int]] = deque()

    def wrote(self, offset: int, length: int) -> None:
        """Tell that a range was written."""
        if self._newer and sum(self._newer[-1]) == offset:
            start, before = self._newer.pop()
            offset, length = start, before + length
        self._newer.append((offset, length))

    def reached(self, position: int) -> None:
        """Tell that nothing before `position` will be written any more."""
        if position - self._begun < _WINDOW:
            return
        for part in self._newer:
            self._cache.write_out(*part, wait=False)
        for part in self._older:
            self._cache.write_out(*part, wait=True)
            self._cache.let_go(*part)
        self._older, self._newer, self._begun = self._newer, deque(), position
