"""Passing through an image once, without leaving it in the host's page cache.

A busy host's memory holds what its guests read again and again; a copy reads or writes each
byte once. So what was not cached before is let go of again soon after it was read, or
written and on the disk; what was cached stays.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from virtstore.backends.base import Image

#: Bytes behind the one that is read now that some thread may still be reading.
_BEHIND: Final = 16 << 20
#: Bytes that are on their way to the disk while the next ones are written: what a flush at
#: the end of a copy, which nothing can interrupt, has to wait for at the most.
_WINDOW: Final = 64 << 20

#: Bytes that are fetched at once of what is read from start to end.
_STEP: Final = 4 << 20

_Ranges = deque[tuple[int, int]]


class Reading:
    """For one thread, which says what is read next, by whatever thread."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._fetched: _Ranges = deque()

    def next(self, offset: int, length: int) -> None:
        """Begin to read a range, and let go of what lies far enough behind it."""
        while self._fetched and sum(self._fetched[0]) <= offset - _BEHIND:
            self._image.let_go(*self._fetched.popleft())
        self._fetched.extend(self._image.fetch(offset, length))

    def end(self) -> None:
        """Everything was read."""
        while self._fetched:
            self._image.let_go(*self._fetched.popleft())


class ReadThrough:
    """An archive that one thread reads from start to end, and says nothing."""

    def __init__(self, image: Image, reading: Reading) -> None:
        self._image = image
        self._reading = reading
        self._fetched = 0
        self.size = image.size

    def read_at(self, offset: int, length: int) -> bytes:
        """See `formats.base.ArchiveSource`."""
        while self._fetched < min(offset + length + _STEP, self.size):
            self._reading.next(self._fetched, min(_STEP, self.size - self._fetched))
            self._fetched += _STEP
        return self._image.read_at(offset, length)


class Writing:
    """For one thread, which says what was written, in the draft's order."""

    def __init__(self, draft: Image) -> None:
        self._draft = draft
        self._begun = 0
        self._newer: _Ranges = deque()
        self._older: _Ranges = deque()

    def wrote(self, offset: int, length: int) -> None:
        """A range was written."""
        if self._newer and sum(self._newer[-1]) == offset:
            start, before = self._newer.pop()
            offset, length = start, before + length
        self._newer.append((offset, length))

    def reached(self, position: int) -> None:
        """Nothing before `position` will be written any more."""
        if position - self._begun < _WINDOW:
            return
        for part in self._newer:
            self._draft.write_out(*part, wait=False)
        for part in self._older:
            self._draft.write_out(*part, wait=True)
            self._draft.let_go(*part)
        self._older, self._newer, self._begun = self._newer, deque(), position
