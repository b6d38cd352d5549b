"""lz4: frames one after another, each with a checksum of its contents.

We write one frame: it ends in a mark, so that a truncated archive is seen as one. The
frame does not state the image's size, which is not known when its header is written.

Source: lz4's doc/lz4_Frame_format.md, version 1.6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, cast

import lz4.frame

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource, Sink
from virtstore.formats.cursor import PAGE, Cursor
from virtstore.formats.header_budget import HeaderBudget, total
from virtstore.formats.streams import Decoder, Encoder, MemberWriter, read_member
from virtstore.formats.zstd_frames import is_skippable, skippable_length
from virtstore.model import Compression
from virtstore.names import SUFFIXES

_MAGIC: Final = b"\x04\x22\x4d\x18"
_LEGACY_MAGIC: Final = b"\x02\x21\x4c\x18"
_LEGACY_MOST: Final = (8 << 20) + (8 << 20) // 255 + 16  # LZ4_compressBound(8 MiB)
_WORD: Final = struct.Struct("<I")
_STORED_AS_IS: Final = 1 << 31
_MOST_IN_A_BYTE: Final = 255  # a byte of a match length adds as much


class _Header(NamedTuple):
    length: int
    content_size: int | None
    block_size: int
    block_checksums: bool
    content_checksum: bool


class Lz4:
    name: Compression = "lz4"
    suffix = SUFFIXES["lz4"]
    levels = range(1, 13)
    default_level = 1

    def missing(self) -> tuple[str, ...]:
        return ()

    def recognises(self, head: bytes) -> bool:
        """By the magic number and the version and reserved bits behind it; a legacy frame
        by its magic number and a length that its first block can have."""
        if head.startswith(_LEGACY_MAGIC):
            return len(head) >= 8 and _WORD.unpack_from(head, 4)[0] <= _LEGACY_MOST
        return head.startswith(_MAGIC) and len(head) >= 6 and _sound(head[4], head[5])

    def image_size(self, source: ArchiveSource) -> int | None:
        cursor, steps = Cursor(source, ahead=PAGE), HeaderBudget()
        return total(_skip_frame(cursor, steps) for _ in _frames(cursor, steps))

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        cursor = Cursor(source)
        for _ in _frames(cursor, HeaderBudget.unlimited()):
            decoder = cast(Decoder, lz4.frame.LZ4FrameDecompressor())
            yield from read_member(cursor, decoder, RuntimeError)

    def writer(self, sink: Sink, level: int | None = None) -> MemberWriter:
        encoder = lz4.frame.LZ4FrameCompressor(
            block_size=lz4.frame.BLOCKSIZE_MAX1MB,
            compression_level=self.default_level if level is None else level,
            content_checksum=True,
        )
        return MemberWriter(sink, cast(Encoder, encoder), encoder.begin())


def _frames(cursor: Cursor, steps: HeaderBudget) -> Iterator[None]:
    """The header of each frame that has contents. The caller moves the cursor to the frame's end
    before it asks for the next."""
    found = 0
    while not cursor.at_end:
        steps.take()
        head = cursor.peek(8)
        if is_skippable(head):
            cursor.skip(skippable_length(head))
        elif head.startswith(_MAGIC):
            _refuse_dictionary(cursor.peek(19))
            found += 1
            yield
        elif head.startswith(_LEGACY_MAGIC):
            raise Unsupported(
                "the archive is in lz4's legacy format, which has no checksums and no end;"
                " make it new with `lz4 -d`, then `lz4`"
            )
        elif found:
            raise cursor.trailing("lz4", found)
        else:
            raise Corrupt(f"no lz4 frame begins at byte {cursor.position}")
    if not found:
        raise Corrupt("the archive is empty, or cut off before its first frame")


def _refuse_dictionary(head: bytes) -> None:
    """Raises `Unsupported` for a sound header that names a dictionary."""
    if len(head) < 5 or not head[4] & 1:
        return
    try:
        lz4.frame.get_frame_info(head)  # checks the header's checksum
    except RuntimeError:
        return
    number = int.from_bytes(head[14:18] if head[4] & 8 else head[6:10], "little")
    raise Unsupported(
        f"the archive was made with a dictionary ({number}), which is needed to read it;"
        " `lz4 -d -D DICTIONARY ARCHIVE NEW.img` makes a raw image of it"
    )


def _skip_frame(cursor: Cursor, steps: HeaderBudget) -> int | None:
    """Move over a frame. Returns its content size, None if it does not say it."""
    header = _parse_header(cursor.peek(19))
    cursor.skip(header.length)
    capacity = 0
    while word := _WORD.unpack(cursor.take(4))[0]:
        steps.take()
        stored = word & ~_STORED_AS_IS
        if stored > header.block_size:
            raise Corrupt(f"a damaged block begins at byte {cursor.position - 4}")
        cursor.skip(stored + 4 * header.block_checksums)
        most = stored if word & _STORED_AS_IS else stored * _MOST_IN_A_BYTE
        capacity += min(most, header.block_size)
    cursor.skip(4 * header.content_checksum)
    if header.content_size is not None and header.content_size > capacity:
        raise Corrupt(
            f"a frame claims {header.content_size} bytes and its blocks hold at most {capacity}"
        )
    return header.content_size


def _parse_header(head: bytes) -> _Header:
    """FLG, BD, content size (8 bytes) and dictionary id (4) where FLG says so, checksum."""
    if len(head) < 7 or not _sound(head[4], head[5]):
        raise Corrupt("the header of an lz4 frame is damaged or cut off")
    flags = head[4]
    has_size, has_dictionary = flags >> 3 & 1, flags & 1
    length = 7 + 8 * has_size + 4 * has_dictionary
    if len(head) < length:
        raise Corrupt("the header of an lz4 frame is cut off")
    return _Header(
        length=length,
        content_size=int.from_bytes(head[6:14], "little") if has_size else None,
        block_size=1 << (8 + 2 * (head[5] >> 4)),
        block_checksums=bool(flags & 0x10),
        content_checksum=bool(flags & 0x04),
    )


def _sound(flags: int, descriptor: int) -> bool:
    return flags >> 6 == 1 and not flags & 0x02 and not descriptor & 0x8F and descriptor >= 0x40
