"""xz: streams one after another, each with an index that states the sizes of its blocks.

The image's size is the sum over the indexes, found from the end backwards. Padding of
zeros after a stream, in multiples of four bytes, is part of the format and is taken.

Source: The .xz File Format, version 1.2.1 (tukaani.org/xz/xz-file-format.txt).
"""

from __future__ import annotations

import itertools
import lzma
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource, Sink, Trailing
from virtstore.formats.cursor import PAGE, Cursor, Section
from virtstore.formats.header_budget import HeaderBudget, OverBudget
from virtstore.formats.streams import MemberWriter, read_member
from virtstore.model import Compression
from virtstore.names import SUFFIXES
from virtstore.units import MAX_SIZE

#: What a decoder may allocate: the dictionary of `xz -9` is 64 MiB, so that this takes
#: every preset, and the 128 MiB that people set by hand, and not the 1.5 GiB that an
#: archive may claim to need.
_MEMORY: Final = 192 << 20

_MAGIC: Final = b"\xfd7zXZ\x00"
_HEADER: Final = 12  # of a stream; its footer is as long
_FOOTER: Final = struct.Struct("<II2s2s")  # CRC-32, index size / 4 - 1, flags, magic
_END_MAGIC: Final = b"YZ"
_PADDING: Final = bytes(PAGE)
#: How far from the archive's end a footer is looked for that something was appended to.
_MOST_BEHIND: Final = 64 << 10
_STEPS_OF_A_STREAM: Final = 4  # header, footer, index and its checksum: a read each
# What LZMA2 can do at most: a chunk of 2 MiB behind a header of 6 bytes.
_MOST_IN_A_BYTE: Final = (2 << 20) // 6


class Xz:
    name: Compression = "xz"
    suffix = SUFFIXES["xz"]
    levels = range(10)
    default_level = 6

    def missing(self) -> tuple[str, ...]:
        return ()

    def recognises(self, head: bytes) -> bool:
        """By the six bytes of the magic number and a first flag byte that must be zero."""
        return head.startswith(_MAGIC) and head[6:7] in (b"", b"\x00")

    def image_size(self, source: ArchiveSource) -> int | None:
        try:
            return _size(source, HeaderBudget())
        except OverBudget:
            return None

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        cursor = Cursor(source)
        for members in itertools.count():
            if not self.recognises(cursor.peek(_HEADER)):
                if members:
                    raise cursor.trailing(self.name, members)
                raise Corrupt(f"no xz stream begins at byte {cursor.position}")
            yield from _read_stream(cursor)
            _skip_padding(cursor)
            if cursor.at_end:
                return

    def writer(self, sink: Sink, level: int | None = None) -> MemberWriter:
        preset = self.default_level if level is None else level
        return MemberWriter(sink, lzma.LZMACompressor(check=lzma.CHECK_CRC64, preset=preset))


def _read_stream(cursor: Cursor) -> Iterator[bytes]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        yield from read_member(cursor, decoder, lzma.LZMAError)
    except Corrupt as error:
        # LZMAError has no other sign of LZMA_MEMLIMIT_ERROR than CPython's own words.
        if "Memory usage limit" not in error.message:
            raise
        raise Unsupported(
            f"the archive needs more than {_MEMORY >> 20} MiB of memory to be read; compress it"
            " again with a preset of xz (-0 to -9)"
        ) from None


def _skip_padding(cursor: Cursor) -> None:
    begin = cursor.position
    while page := cursor.peek(PAGE):
        zeros = len(page) - len(page.lstrip(b"\0"))
        cursor.skip(zeros)
        if zeros < len(page):
            break
    if (cursor.position - begin) % 4:
        raise Corrupt(f"junk follows the xz stream that ends at byte {begin}")


def _size(source: ArchiveSource, steps: HeaderBudget) -> int:
    """Bytes that all streams hold together. Raises `OverBudget`."""
    total, end = 0, source.size
    while end:
        end = _without_padding(source, end, steps)
        if not total and (whole := _end_before(source, end)):
            raise Trailing("xz", whole, source.size, members=1, zeros=False)
        end, size = _last_stream(source, end, steps)
        total += size
        if total > MAX_SIZE:
            raise Corrupt("the archive claims 8 EiB or more, which no file can be")
    if not source.size:
        raise Corrupt("the archive is empty")
    return total


def _without_padding(source: ArchiveSource, end: int, steps: HeaderBudget) -> int:
    """The byte where the last stream before `end` ends, without the zeros behind it. A page of
    zeros is a step."""
    while end >= PAGE and source.read_at(end - PAGE, PAGE) == _PADDING:
        steps.take()
        end -= PAGE
    tail = source.read_at(max(0, end - PAGE), min(end, PAGE))
    padding = len(tail) - len(tail.rstrip(b"\0"))
    # A footer ends in "YZ": zeros at the end are padding.
    return end - padding


def _last_stream(source: ArchiveSource, end: int, steps: HeaderBudget) -> tuple[int, int]:
    """The byte where the stream that ends at `end` begins, and the size of its contents."""
    steps.take(_STEPS_OF_A_STREAM)
    if end < 2 * _HEADER:
        raise Corrupt("the archive is truncated, or is not xz")
    footer = source.read_at(end - _HEADER, _HEADER)
    _, backward, flags, _ = _FOOTER.unpack(footer)
    index_size = 4 * (backward + 1)
    if not _is_footer(footer) or index_size > end - 2 * _HEADER:
        raise Corrupt(
            f"the end of the xz stream at byte {end} is missing or damaged, or something was"
            " appended to the archive (`xz -t` tells)"
        )
    index_at = end - _HEADER - index_size
    stored, size = _read_index(Section(source, index_at, end - _HEADER), steps)
    begin = index_at - stored - _HEADER
    if begin < 0 or source.read_at(begin, 8) != _MAGIC + flags:
        raise Corrupt(f"the xz stream that ends at byte {end} has no beginning")
    return begin, size


def _is_footer(raw: bytes) -> bool:
    if len(raw) < _HEADER:
        return False
    crc, _, _, magic = _FOOTER.unpack(raw)
    return bool(magic == _END_MAGIC and crc == zlib.crc32(raw[4:10]))


def _end_before(source: ArchiveSource, end: int) -> int | None:
    """Where a stream ends that something follows which is none, if that is not far before `end`;
    None where one ends there."""
    start = max(0, end - _MOST_BEHIND)
    tail = source.read_at(start, end - start)
    stop = len(tail)
    while not _is_footer(tail[max(0, stop - _HEADER) : stop]):
        if (at := tail.rfind(_END_MAGIC, 0, stop - 1)) < 0:
            return None
        stop = at + len(_END_MAGIC)
    return start + stop if stop < len(tail) else None


def _read_index(index: Section, steps: HeaderBudget) -> tuple[int, int]:
    """Bytes that the blocks take in the archive, and bytes that they hold. A block is a step."""
    cursor = Cursor(index, ahead=PAGE)
    if cursor.take(1) != b"\0":
        raise Corrupt("an index of the xz archive is damaged")
    stored = held = 0
    for _ in range(_read_number(cursor)):
        steps.take()
        unpadded, size = _read_number(cursor), _read_number(cursor)
        if size > unpadded * _MOST_IN_A_BYTE:
            raise Corrupt(f"an xz block of {unpadded} bytes claims to hold {size}")
        stored += unpadded + -unpadded % 4
        held += size
    _check_index_end(index, cursor.position)
    return stored, held


def _check_index_end(index: Section, end: int) -> None:
    padded = end + -end % 4
    if padded + 4 != index.size or index.read_at(end, padded - end).strip(b"\0"):
        raise Corrupt("an index of the xz archive is damaged")
    crc, at = 0, 0
    while at < padded:
        piece = index.read_at(at, min(1 << 20, padded - at))
        crc = zlib.crc32(piece, crc)
        at += len(piece)
    if index.read_at(padded, 4) != crc.to_bytes(4, "little"):
        raise Corrupt("an index of the xz archive fails its checksum")


def _read_number(cursor: Cursor) -> int:
    """Section 1.2: seven bits a byte, the lowest first, at most nine bytes."""
    number = 0
    for shift in range(0, 63, 7):
        byte = cursor.take(1)[0]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise Corrupt("an index of the xz archive is damaged")
