"""The headers of the zstd format: how far a frame reaches and what it claims to hold.

Nothing is decompressed here. A frame is a header, blocks that each hold at most 128 KiB
of contents, and a checksum; a skippable frame is a magic number and a length. Walking
over the headers finds truncation, and finds claims that the blocks behind them cannot
keep, before a byte of memory is spent on them.

Source: RFC 8878, sections 3.1.1 and 3.1.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import zstandard

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.cursor import Cursor
from virtstore.formats.header_budget import HeaderBudget

MAGIC: Final = b"\x28\xb5\x2f\xfd"
#: The largest window that a reader allocates: what `zstd -d` takes, and `zstd --long` makes.
MAX_WINDOW: Final = 1 << 27
#: What a block can hold at most (RFC 8878, 3.1.1.2.4).
MAX_BLOCK: Final = 128 << 10
CHECKSUM_SIZE: Final = 4

_LARGEST_WINDOW_OF_ZSTD: Final = 1 << 31  # `zstd --ultra --long=31`
_LONGEST_HEADER: Final = 18
_BLOCK_HEADER: Final = 3
_SKIPPABLE_LENGTH: Final = struct.Struct("<4xI")


class FrameHeader(NamedTuple):
    """`length`: bytes of the header itself; `content_size`: None if it does not say.

    `ours`: the content size is stated in eight bytes although four would do, which is how
    virtstore marks its frames (docs/archive-format.md) and what libzstd never writes.
    """

    length: int
    content_size: int | None
    window: int
    has_checksum: bool
    ours: bool


class Block(NamedTuple):
    """`stored`: bytes behind the block's header; `capacity`: the most they can hold."""

    last: bool
    stored: int
    capacity: int


def parse_header(head: bytes) -> FrameHeader:
    """The header of the zstd frame that begins with `head` (18 bytes, where there are).

    Raises `Corrupt` for what no frame begins with and `Unsupported` for a window that
    only `zstd --long=28` and above make.
    """
    if not head.startswith(MAGIC):
        raise Corrupt("something that is not zstd follows where a frame should begin")
    try:
        length = zstandard.frame_header_size(head)
        said = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise Corrupt(f"the header of a zstd frame is damaged or cut off ({error})") from None
    if said.dict_id:
        raise Unsupported(
            f"the archive was made with a dictionary ({said.dict_id}), which is needed to read it:"
            " `zstd -d -D DICTIONARY ARCHIVE -o NEW.img` makes a raw image of it; if it was made"
            " without one, it is damaged"
        )
    _check_window(said.window_size)
    size = None if said.content_size == zstandard.CONTENTSIZE_UNKNOWN else said.content_size
    wide = head[4] >> 6 == 3 and size is not None and size < 0xFFFF_FFFF
    return FrameHeader(length, size, said.window_size, said.has_checksum, wide)


def _check_window(window: int) -> None:
    if window > _LARGEST_WINDOW_OF_ZSTD:
        raise Corrupt(f"a frame claims a window of {window} bytes, which zstd cannot make")
    if window > MAX_WINDOW:
        raise Unsupported(
            f"the archive needs a window of {window >> 20} MiB and at most {MAX_WINDOW >> 20}"
            " are used; compress it again without --long, or with --long=27"
        )


def take_header(cursor: Cursor) -> FrameHeader:
    """The header at `cursor`, which moves behind it."""
    header = parse_header(cursor.peek(_LONGEST_HEADER))
    cursor.skip(header.length)
    return header


def take_block(cursor: Cursor, window: int) -> Block:
    """The block whose header of three bytes is at `cursor`, which moves behind the header."""
    fields = int.from_bytes(cursor.take(_BLOCK_HEADER), "little")
    last, kind, size = bool(fields & 1), fields >> 1 & 3, fields >> 3
    limit = min(window, MAX_BLOCK)
    if kind == 3 or size > limit:
        raise Corrupt(f"a damaged block begins at byte {cursor.position - _BLOCK_HEADER}")
    if kind == 2:
        return Block(last, size, limit)
    return Block(last, 1 if kind == 1 else size, size)


def raw_pieces(cursor: Cursor, header: FrameHeader) -> Iterator[bytes]:
    """The frame whose header was taken, as it is stored: block by block, then its checksum."""
    last = False
    while not last:
        block = take_block(cursor, header.window)
        last = block.last
        cursor.give_back(_BLOCK_HEADER)
        yield cursor.take(_BLOCK_HEADER + block.stored)
    if header.has_checksum:
        yield cursor.take(CHECKSUM_SIZE)


def skip_frame(cursor: Cursor, header: FrameHeader, steps: HeaderBudget) -> int | None:
    """Move over the frame whose header was taken, a step for each block; its content size, if
    it says it.

    Raises `Corrupt` where the frame is cut off or claims more than its blocks can hold, and
    `OverBudget`.
    """
    capacity, last = 0, False
    while not last:
        steps.take()
        block = take_block(cursor, header.window)
        last = block.last
        capacity += block.capacity
        cursor.skip(block.stored)
    if header.has_checksum:
        cursor.skip(CHECKSUM_SIZE)
    if header.content_size is not None and header.content_size > capacity:
        raise Corrupt(
            f"a frame claims {header.content_size} bytes and its blocks hold at most {capacity}"
        )
    return header.content_size


def is_skippable(head: bytes) -> bool:
    """Whether a skippable frame (of zstd or lz4: they are the same) begins with `head`."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


def skippable_length(head: bytes) -> int:
    """Bytes of the whole skippable frame that begins with `head`."""
    if len(head) < _SKIPPABLE_LENGTH.size:
        raise Corrupt("the archive is truncated in the header of a skippable frame")
    length: int = _SKIPPABLE_LENGTH.unpack_from(head)[0]
    return _SKIPPABLE_LENGTH.size + length
