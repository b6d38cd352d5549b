"""zstd: any `.zst` is read; virtstore's own archives are written elsewhere, chunk by chunk.

An archive of ours is read by its seek table (`seekable`), every other as a stream: frame
after frame, block after block, so that a decoder never gives out more than one block and
what it holds is the window that the frame needs. In a stream, frames of ours count only
with the seek table that must close them: without it they were cut off.
"""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from virtstore.errors import Corrupt
from virtstore.formats.archive_end import stated_size
from virtstore.formats.base import ArchiveSource
from virtstore.formats.chunk_frames import DEFAULT_LEVEL, LEVELS
from virtstore.formats.cursor import PAGE, Cursor, Section
from virtstore.formats.header_budget import HeaderBudget, total
from virtstore.formats.seek_table import ENTRY, TABLE_MAGIC
from virtstore.formats.seekable import SeekableArchive
from virtstore.formats.zstd_frames import (
    MAGIC,
    MAX_WINDOW,
    FrameHeader,
    is_skippable,
    raw_pieces,
    skip_frame,
    skippable_length,
    take_header,
)
from virtstore.model import Compression
from virtstore.names import SUFFIXES


class Zstd:
    name: Compression = "zstd"
    suffix = SUFFIXES["zstd"]
    levels = LEVELS
    default_level = DEFAULT_LEVEL

    def missing(self) -> tuple[str, ...]:
        return ()

    def recognises(self, head: bytes) -> bool:
        """By the magic number and the descriptor's reserved bit, which must be zero."""
        return head.startswith(MAGIC) and not any(byte & 0x08 for byte in head[4:5])

    def image_size(self, source: ArchiveSource) -> int | None:
        size = stated_size(source)
        if size is not None:
            return size
        cursor, steps = Cursor(source, ahead=PAGE), HeaderBudget()
        return total(skip_frame(cursor, head, steps) for head in _frames(source, cursor, steps))

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        archive = SeekableArchive.open(source)
        return archive.read() if archive else _read_stream(source)


def _read_stream(source: ArchiveSource) -> Iterator[bytes]:
    cursor = Cursor(source)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    for header in _frames(source, cursor, HeaderBudget.unlimited()):
        cursor.give_back(header.length)
        decoder = decompressor.decompressobj()
        try:
            decoder.decompress(cursor.take(header.length))
            for raw in raw_pieces(cursor, header):
                if data := decoder.decompress(raw):
                    yield data
        except zstandard.ZstdError as error:
            raise Corrupt(f"the frame that ends at byte {cursor.position}: {error}") from None
        if not decoder.eof:
            raise Corrupt(f"the frame that ends at byte {cursor.position} is not whole")


def _frames(source: ArchiveSource, cursor: Cursor, steps: HeaderBudget) -> Iterator[FrameHeader]:
    """The header of each frame that has contents. The caller moves `cursor` from behind the header
    to the frame's end before it asks for the next.

    Raises `Corrupt` for an empty archive, for anything that is not a frame, and for
    frames of ours whose seek table does not follow. Raises `OverBudget`: a frame is a step, and
    so is each entry of a seek table.
    """
    found = 0
    unclosed: int | None = None
    while not cursor.at_end:
        steps.take()
        begin, head = cursor.position, cursor.peek(8)
        if not is_skippable(head):
            if found and unclosed is None and not head.startswith(MAGIC):
                raise cursor.trailing("zstd", found)
            header = take_header(cursor)
            if header.ours and unclosed is None:
                unclosed = begin
            found += 1
            yield header
            continue
        cursor.skip(skippable_length(head))
        if unclosed is not None and head.startswith(TABLE_MAGIC.to_bytes(4, "little")):
            steps.take(skippable_length(head) // ENTRY.size)
            if SeekableArchive.open(Section(source, unclosed, cursor.position)) is None:
                break
            unclosed = None
    if unclosed is not None:
        raise Corrupt(
            "the end of the archive, with its seek table and digest, is missing or damaged:"
            " it was cut off or changed after virtstore made it"
        )
    if not found:
        raise Corrupt("the archive is empty, or cut off before its first frame")
