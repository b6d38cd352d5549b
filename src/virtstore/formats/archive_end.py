"""The end of an archive: the seals, the JSON frame and the seek table behind the data frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from virtstore.errors import Corrupt
from virtstore.formats import summary as summaries
from virtstore.formats.base import ArchiveSource
from virtstore.formats.cursor import Cursor
from virtstore.formats.seals import SEAL, Seals
from virtstore.formats.seek_table import (
    ENTRY,
    FOOTER,
    FOOTER_MAGIC,
    HAS_CHECKSUMS,
    MAX_FRAMES,
    SKIPPABLE,
    TABLE_MAGIC,
    FrameTable,
    decode_entries,
)
from virtstore.formats.summary import Summary

JSON_MAGIC: Final = 0x184D2A50
SEALS_MAGIC: Final = 0x184D2A52
EMPTY_CHECKSUM: Final = 0x51D8E999  # the low 32 bits of XXH64 of nothing

_MOST_JSON: Final = 64 << 10
_PIECE: Final = ENTRY.size << 16  # of a seek table, to be read at once


class End(NamedTuple):
    """Where the data frames end, and the entries of the seek table that are theirs, in bytes.
    `seals`: how many follow, from `data_end` and a header on; None in version 1."""

    summary: Summary
    data_end: int
    entries_at: int
    entries_end: int
    seals: int | None

    def seals_of(self, source: ArchiveSource, frames: FrameTable) -> Seals | None:
        """The seals of these frames. Raises `Corrupt` where there are not as many."""
        if self.seals is None:
            return None
        if self.seals != len(frames):
            raise Corrupt(f"the archive has {len(frames)} frames and keeps {self.seals} digests")
        at = self.data_end + SKIPPABLE.size
        return Seals(source, at, frames, self.summary.seals, self.summary.digest)


def found_end(source: ArchiveSource) -> End | None:
    """The end of an archive of ours; None where this is none. Raises `Corrupt` where the archive
    says that it is ours and its parts contradict each other."""
    table_at = _table_at(source)
    if table_at is None:
        return None
    entries_at = table_at + SKIPPABLE.size
    entries_end = source.size - FOOTER.size - ENTRY.size
    stored = _length_of_nothing(source, entries_end)
    if stored is None or not SKIPPABLE.size <= stored <= _MOST_JSON or stored > table_at:
        return None
    json_at = table_at - stored
    frame = source.read_at(json_at, stored)
    if SKIPPABLE.unpack_from(frame) != (JSON_MAGIC, stored - SKIPPABLE.size):
        return None
    summary = summaries.decode(frame[SKIPPABLE.size :])
    if summary is None:
        return None
    if summary.version == 1:
        return End(summary, json_at, entries_at, entries_end, None)
    entries_end -= ENTRY.size
    data_end = _before_seals(source, json_at, entries_end) if entries_end >= entries_at else None
    if data_end is None:
        raise Corrupt("the digests that the archive keeps of its frames are missing or damaged")
    seals = (json_at - data_end - SKIPPABLE.size) // SEAL.size
    return End(summary, data_end, entries_at, entries_end, seals)


def stated_size(source: ArchiveSource) -> int | None:
    """The size of the image as an archive of ours states it; None where this is none. For
    listings: of a seek table, which has a million entries for a terabyte, the sums are looked at
    and no entry. Raises `Corrupt` as `found_frames` does."""
    found = found_frames(source)
    return found[0].summary.size if found else None


def found_frames(source: ArchiveSource) -> tuple[End, FrameTable] | None:
    """The end of an archive of ours, and its frames, which together are as long as that says; None
    where this is none. Raises `Corrupt` as `found_end` does."""
    end = found_end(source)
    if end is None:
        return None
    entries = _pieces(source, end.entries_at, end.entries_end)
    frames = FrameTable(decode_entries(entries), end.summary.align)
    if frames.archive_size != end.data_end:
        return None  # the last of several archives in one file: only a stream has them all
    size = end.summary.size
    if size != frames.image_size:
        raise Corrupt(f"the archive says {size} bytes of image, its seek table {frames.image_size}")
    return end, frames


def _before_seals(source: ArchiveSource, end: int, entry_at: int) -> int | None:
    """The byte where the frame of seals begins that ends at `end`; None if there is none."""
    stored = _length_of_nothing(source, entry_at)
    if stored is None or not SKIPPABLE.size <= stored <= end:
        return None
    if (stored - SKIPPABLE.size) % SEAL.size:
        return None
    header = SKIPPABLE.unpack(source.read_at(end - stored, SKIPPABLE.size))
    return end - stored if header == (SEALS_MAGIC, stored - SKIPPABLE.size) else None


def _length_of_nothing(source: ArchiveSource, entry_at: int) -> int | None:
    """The stored length that a seek table's entry has for a frame of no contents; None where it is
    the entry of another frame."""
    stored, length, checksum = ENTRY.unpack(source.read_at(entry_at, ENTRY.size))
    return stored if (length, checksum) == (0, EMPTY_CHECKSUM) else None


def _table_at(source: ArchiveSource) -> int | None:
    """The byte where the seek table begins; None if the archive has no table such as ours."""
    if source.size < SKIPPABLE.size + FOOTER.size:
        return None
    count, descriptor, magic = FOOTER.unpack(source.read_at(source.size - FOOTER.size, FOOTER.size))
    if magic != FOOTER_MAGIC or descriptor != HAS_CHECKSUMS or not 0 < count <= MAX_FRAMES:
        return None
    length = count * ENTRY.size
    begin = source.size - FOOTER.size - length - SKIPPABLE.size
    if begin < 0:
        return None
    header = SKIPPABLE.unpack(source.read_at(begin, SKIPPABLE.size))
    return begin if header == (TABLE_MAGIC, length + FOOTER.size) else None


def _pieces(source: ArchiveSource, begin: int, end: int) -> Iterator[bytes]:
    cursor = Cursor(source, begin, ahead=_PIECE)
    while cursor.position < end:
        yield cursor.take(min(_PIECE, end - cursor.position))
