"""The seek table at the end of an archive: where each frame lies and what it holds.

A terabyte of data is a million frames, so the table is kept in arrays of machine integers
(28 bytes a frame), and a `Frame` is made only when one is asked for.

Source: the zstd project's contrib/seekable_format/zstd_seekable_compression_format.md.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

SKIPPABLE: Final = struct.Struct("<II")  # magic number, bytes that follow
FOOTER: Final = struct.Struct("<IBI")  # entries, descriptor, magic number
ENTRY: Final = struct.Struct("<III")  # compressed size, contents' size, contents' checksum

TABLE_MAGIC: Final = 0x184D2A5E
FOOTER_MAGIC: Final = 0x8F92EAB1
#: The descriptor's only bits that we write or take: "entries have checksums".
HAS_CHECKSUMS: Final = 0x80
#: Frames in an archive: 16 TiB of data, and any amount of zeros beside it. It bounds what
#: a table can make a reader hold.
MAX_FRAMES: Final = 1 << 24


class Frame(NamedTuple):
    """`offset` and `length` in the image, `position` and `stored` in the archive, in bytes;
    `checksum`: the low 32 bits of XXH64 of the contents."""

    offset: int
    length: int
    position: int
    stored: int
    checksum: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class FrameTable:
    """The frames of an archive in order. Indexed by number; iterating makes `Frame`s."""

    def __init__(self, entries: bytes) -> None:
        """`entries` as a seek table stores them, without header and footer."""
        fields = array("I", entries)
        if sys.byteorder == "big":
            fields.byteswap()
        self._stored = fields[0::3]
        self._lengths = fields[1::3]
        self._checksums = fields[2::3]
        self._positions = array("Q", accumulate(self._stored, initial=0))
        self._offsets = array("Q", accumulate(self._lengths, initial=0))

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Frame(
            self._offsets[index],
            self._lengths[index],
            self._positions[index],
            self._stored[index],
            self._checksums[index],
        )

    def __iter__(self) -> Iterator[Frame]:
        return map(self.__getitem__, range(len(self)))

    @property
    def image_size(self) -> int:
        return self._offsets[-1]

    @property
    def archive_size(self) -> int:
        """Bytes of the archive that the frames take."""
        return self._positions[-1]

    def find(self, offset: int) -> int:
        """The number of the frame that holds the image's byte at `offset`."""
        if not 0 <= offset < self.image_size:
            raise IndexError(offset)
        return bisect_right(self._offsets, offset) - 1

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(stored, length) of each frame, without making a `Frame`."""
        return zip(self._stored, self._lengths, strict=True)


def encode_table(fields: array[int]) -> bytes:
    """A seek table, header and footer included; `fields`: three integers for each entry."""
    if sys.byteorder == "big":
        fields = fields[:]
        fields.byteswap()
    entries = fields.tobytes()
    footer = FOOTER.pack(len(fields) // 3, HAS_CHECKSUMS, FOOTER_MAGIC)
    return SKIPPABLE.pack(TABLE_MAGIC, len(entries) + len(footer)) + entries + footer
