"""A place in an archive that moves forwards only, and never past the archive's end.

Parsers ask for exactly what a header says must follow; an archive that ends before is
truncated, and that is `Corrupt` here, once, for all formats.
"""

from __future__ import annotations

from typing import Final

from virtstore.errors import Corrupt
from virtstore.formats.base import ArchiveSource, Trailing
from virtstore.model import Compression

#: What one read takes when contents are read through. Walks over headers use `PAGE`.
READ_AHEAD: Final = 256 << 10
PAGE: Final = 4 << 10


class Cursor:
    """Reads `source` from `position` on, at least `ahead` bytes at a time."""

    def __init__(self, source: ArchiveSource, position: int = 0, *, ahead: int = READ_AHEAD):
        self.position = position
        self._source = source
        self._ahead = ahead
        self._buffer = b""
        self._buffer_at = position

    @property
    def at_end(self) -> bool:
        return self.position >= self._source.size

    def peek(self, length: int) -> bytes:
        """The next `length` bytes, fewer only at the archive's end, without moving."""
        begin = self.position - self._buffer_at
        if begin + length > len(self._buffer):
            self._buffer = self._source.read_at(self.position, max(length, self._ahead))
            self._buffer_at = self.position
            begin = 0
        return self._buffer[begin : begin + length]

    def take(self, length: int) -> bytes:
        """Exactly the next `length` bytes. Raises `Corrupt` if the archive ends before."""
        data = self.peek(length)
        if len(data) < length:
            raise self._truncated(length)
        self.position += length
        return data

    def take_some(self, most: int | None = None) -> bytes:
        """Whatever one read gives, or `most` bytes of it; empty only at the archive's end."""
        data = self.peek(self._ahead if most is None else min(most, self._ahead))
        self.position += len(data)
        return data

    def skip(self, length: int) -> None:
        """Move on over `length` bytes that are there. Raises `Corrupt` if they are not."""
        if length > self._source.size - self.position:
            raise self._truncated(length)
        self.position += length

    def trailing(self, form: Compression, members: int) -> Trailing:
        """The error for an archive of which so many members have been read, and which goes on
        with what is none."""
        at, size = self.position, self._source.size
        zeros = not any(
            self._source.read_at(offset, READ_AHEAD).strip(b"\0")
            for offset in range(at, size, READ_AHEAD)
        )
        return Trailing(form, at, size, members=members, zeros=zeros)

    def give_back(self, length: int) -> None:
        """Move back over `length` bytes that a decoder was given and did not want."""
        self.position -= length
        if self.position < self._buffer_at:
            self._buffer, self._buffer_at = b"", self.position

    def _truncated(self, length: int) -> Corrupt:
        return Corrupt(
            f"the archive is truncated: it ends at byte {self._source.size}, and"
            f" {length} bytes should follow byte {self.position}"
        )


class Section:
    """A part of an archive as an archive of its own (a member of a concatenation)."""

    def __init__(self, source: ArchiveSource, begin: int, end: int):
        self._source = source
        self._begin = begin
        self.size = end - begin

    def read_at(self, offset: int, length: int) -> bytes:
        return self._source.read_at(self._begin + offset, max(0, min(length, self.size - offset)))
