"""The seek table at the end of an archive: where each frame lies and what it holds.

A terabyte of data is a million frames, and a guest can make an image that claims sixteen
million. So the table is kept as it is stored (12 bytes a frame), beside it only where each 64th
frame begins, and a `Frame` is made when one is asked for.

Source: the zstd project's contrib/seekable_format/zstd_seekable_compression_format.md.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from typing import Final, NamedTuple

from virtstore.digest import CHUNK

SKIPPABLE: Final = struct.Struct("<II")  # magic number, bytes that follow
FOOTER: Final = struct.Struct("<IBI")  # entries, descriptor, magic number
ENTRY: Final = struct.Struct("<III")  # compressed size, contents' size, contents' checksum

TABLE_MAGIC: Final = 0x184D2A5E
FOOTER_MAGIC: Final = 0x8F92EAB1
PADDING_MAGIC: Final = 0x184D2A51
#: The descriptor's only bits that we write or take: "entries have checksums".
HAS_CHECKSUMS: Final = 0x80
#: Frames in an archive: 16 TiB of data, and any amount of zeros beside it. It bounds what
#: a table can make a reader hold.
MAX_FRAMES: Final = 1 << 24

_FIELDS: Final = 3  # of an entry
_GROUP: Final = 64  # frames to add up, at most, to find where one begins
_AT_ONCE: Final = 1 << 16  # entries of which one field is held to be added up


class Frame(NamedTuple):
    """`offset` and `length` in the image, `position` and `stored` in the archive, in bytes;
    `checksum`: the low 32 bits of XXH64 of the contents; `padding`: bytes of padding before it."""

    offset: int
    length: int
    position: int
    stored: int
    checksum: int
    padding: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length


class FrameTable:
    """The frames of an archive in order. Indexed by number; iterating makes `Frame`s."""

    def __init__(self, fields: array[int], align: int = 1) -> None:
        """`fields`: three integers for each entry, which the table keeps. `align`: bytes of which
        the positions of chunks' frames are multiples; an entry has the padding before its frame."""
        self._fields = fields
        self._align = align

    def __len__(self) -> int:
        return len(self._fields) // _FIELDS

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group, within = divmod(index, _GROUP)
        stored, length, checksum = self._fields[index * _FIELDS : (index + 1) * _FIELDS]
        return self._frame(
            self._offsets[group] + sum(self._column(1, group)[:within]),
            length,
            self._positions[group] + sum(self._column(0, group)[:within]),
            stored,
            checksum,
        )

    def __iter__(self) -> Iterator[Frame]:
        offset = position = 0
        for group in range(self._groups):
            columns = (self._column(field, group) for field in range(_FIELDS))
            for stored, length, checksum in zip(*columns, strict=True):
                yield self._frame(offset, length, position, stored, checksum)
                offset += length
                position += stored

    @cached_property
    def image_size(self) -> int:
        return sum(self._sums(1, _AT_ONCE))

    @cached_property
    def archive_size(self) -> int:
        """Bytes of the archive that the frames take."""
        return sum(self._sums(0, _AT_ONCE))

    def find(self, offset: int) -> int:
        """The number of the frame that holds the image's byte at `offset`."""
        if not 0 <= offset < self.image_size:
            raise IndexError(offset)
        group = bisect_right(self._offsets, offset) - 1
        ends = list(accumulate(self._column(1, group), initial=self._offsets[group]))[1:]
        return group * _GROUP + bisect_right(ends, offset)

    def _frame(self, offset: int, length: int, position: int, stored: int, checksum: int) -> Frame:
        padding = padding_at(position, self._align) if length <= CHUNK else 0
        stored = max(0, stored - padding)  # whoever reads it finds that it is no frame
        return Frame(offset, length, position + padding, stored, checksum, padding)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(stored, length) of each entry, padding included, without making a `Frame`."""
        for group in range(self._groups):
            yield from zip(self._column(0, group), self._column(1, group), strict=True)

    # Made for those who look for frames: whoever lists an archive wants its sums only.
    @cached_property
    def _positions(self) -> array[int]:
        """Where every 64th frame begins in the archive, and where the last ends."""
        return array("Q", accumulate(self._sums(0, _GROUP), initial=0))

    @cached_property
    def _offsets(self) -> array[int]:
        """The same in the image."""
        return array("Q", accumulate(self._sums(1, _GROUP), initial=0))

    @property
    def _groups(self) -> int:
        return -(-len(self) // _GROUP)

    def _column(self, field: int, group: int, size: int = _GROUP) -> array[int]:
        """One field of each entry in a group of `size`."""
        begin = group * size * _FIELDS
        return self._fields[begin + field : begin + size * _FIELDS : _FIELDS]

    def _sums(self, field: int, size: int) -> Iterator[int]:
        """Of one field, by groups of `size` entries."""
        return (sum(self._column(field, group, size)) for group in range(-(-len(self) // size)))


def padding_at(position: int, align: int) -> int:
    """Bytes of padding from there to the next multiple of `align`: none, or as many as a skippable
    frame has at the least."""
    gap = -position % align
    return gap if gap == 0 or gap >= SKIPPABLE.size else gap + align


def padding_of(length: int) -> bytes:
    """So many bytes of padding: a skippable frame of zeros."""
    data = length - SKIPPABLE.size
    return SKIPPABLE.pack(PADDING_MAGIC, data) + bytes(data)


def is_padding(data: bytes) -> bool:
    """Whether these bytes are padding, and nothing else."""
    return len(data) >= SKIPPABLE.size and data == padding_of(len(data))


def decode_entries(pieces: Iterable[bytes]) -> array[int]:
    """The three integers of each entry, as a seek table stores them."""
    fields = array("I")
    for piece in pieces:
        fields.frombytes(piece)
    if sys.byteorder == "big":
        fields.byteswap()
    return fields


def encode_table(fields: array[int]) -> bytes:
    """A seek table, header and footer included; `fields`: three integers for each entry."""
    if sys.byteorder == "big":
        fields = fields[:]
        fields.byteswap()
    entries = fields.tobytes()
    footer = FOOTER.pack(len(fields) // _FIELDS, HAS_CHECKSUMS, FOOTER_MAGIC)
    return SKIPPABLE.pack(TABLE_MAGIC, len(entries) + len(footer)) + entries + footer
