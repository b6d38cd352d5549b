"""virtstore's own archives: zstd frames, a JSON frame, a seek table.

docs/archive-format.md is the specification. Every byte of an archive is held against
something: frames against their checksums and the table, the table against the archive's
length and the JSON frame, the image against its size and digest. What `open` accepts has
a sound structure; what `contents` returns has passed its checks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from virtstore.digest import CHUNK, ZEROS, ImageDigest, chunk_digest
from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource, Sink
from virtstore.formats.chunk_frames import (
    MAX_FRAME,
    MAX_ZEROS,
    decompress_block,
    holds_zeros,
    require_zeros,
    zero_frames,
)
from virtstore.formats.cursor import Cursor
from virtstore.formats.header_budget import HeaderBudget, OverBudget
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
    encode_table,
)
from virtstore.formats.zstd_frames import (
    CHECKSUM_SIZE,
    MAGIC,
    MAX_BLOCK,
    skip_frame,
    take_header,
)
from virtstore.units import MAX_SIZE

FORMAT_VERSION: Final = 1

_JSON_MAGIC: Final = 0x184D2A50
_MOST_JSON: Final = 64 << 10
_EMPTY_CHECKSUM: Final = 0x51D8E999  # the low 32 bits of XXH64 of nothing
_MOST_BLOCKS: Final = MAX_ZEROS // MAX_BLOCK
_AHEAD: Final = 1 << 20  # so that few frames are read in two parts
_SMALLEST_BLOCK: Final = 4  # a block's header and the one byte that it repeats
_LEAST_FOR_A_CHUNK: Final = CHUNK // MAX_BLOCK * _SMALLEST_BLOCK
_PIECE: Final = ENTRY.size << 16  # of a seek table, to be read at once


class Summary(msgspec.Struct, frozen=True):
    """The JSON frame. `size` in bytes; `digest` as `virtstore.digest` defines it, in hex."""

    format: Literal["virtstore"]
    version: int
    size: int
    chunk: int
    digest: str


class SeekableWriter:
    """Writes an archive front to back, of frames that are ready made.

    Every frame begins on a chunk boundary of the image; the image's last may end anywhere.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._table = array("I")
        self.image_size = 0

    def add_frame(self, frame: bytes, length: int) -> None:
        """The image's next `length` bytes, as `compress_block` made them or another
        archive had them. The frame is taken as it is: whoever gives it has checked it."""
        self.add_stored(len(frame), frame[-CHECKSUM_SIZE:], length)
        self._sink(frame)

    def add_stored(self, stored: int, checksum: bytes, length: int) -> None:
        """The same for a frame of `stored` bytes, ending in `checksum`, that is in its place."""
        if self.image_size % CHUNK:
            raise ValueError("a frame follows one that did not end on a chunk boundary")
        if len(self._table) // 3 >= MAX_FRAMES - 1:
            raise Unsupported("an archive can hold 16 TiB of data, and this image has more")
        self._table.extend((stored, length, int.from_bytes(checksum, "little")))
        self.image_size += length

    def add_zeros(self, length: int) -> None:
        """The image's next `length` bytes are zeros."""
        for frame, held in zero_frames(length):
            self.add_frame(frame, held)

    def finish(self, digest: str) -> None:
        """The image has ended and has this digest."""
        summary = Summary("virtstore", FORMAT_VERSION, self.image_size, CHUNK, digest)
        text = msgspec.json.encode(summary)
        self._sink(SKIPPABLE.pack(_JSON_MAGIC, len(text)) + text)
        # The seekable format lists skippable frames too, as frames that hold nothing;
        # pyzstd refuses an archive with a gap between the frames listed and the table.
        self._table.extend((SKIPPABLE.size + len(text), 0, _EMPTY_CHECKSUM))
        self._sink(encode_table(self._table))


class SeekableArchive:
    """An archive of ours, to be read at any frame by any number of threads."""

    def __init__(self, source: ArchiveSource, summary: Summary, frames: FrameTable) -> None:
        self._source = source
        self.size = summary.size
        self.digest = summary.digest
        self.frames = frames

    @classmethod
    def open(cls, source: ArchiveSource) -> SeekableArchive | None:
        """The archive, or None if its end is not that of one of ours.

        Then it may still be a zstd archive, to be read as a stream; where frames of ours
        are in it, that reader says that their end is missing. Raises `Corrupt` where the
        archive says that it is ours and its parts contradict each other.
        """
        table_at = _table_at(source)
        if table_at is None:
            return None
        last_at = source.size - FOOTER.size - ENTRY.size
        last = ENTRY.unpack(source.read_at(last_at, ENTRY.size))
        json_at = table_at - last[0]
        summary = _read_summary(source, json_at, last)
        if summary is None:
            return None
        frames = FrameTable(decode_entries(_pieces(source, table_at + SKIPPABLE.size, last_at)))
        if frames.archive_size != json_at:
            return None  # the last of several archives in one file: only a stream has them all
        _check_summary(summary, frames)
        _check_frames(frames)
        return cls(source, summary, frames)

    def stored(self, index: int) -> bytes:
        """A frame as it lies in the archive, found to be the one that the table lists.
        That its contents are sound, only decompressing it tells."""
        frame = self.frames[index]
        data = self._source.read_at(frame.position, frame.stored)
        if len(data) < frame.stored:
            raise Corrupt(f"the archive is truncated in the frame at byte {frame.position}")
        checksum = int.from_bytes(data[-CHECKSUM_SIZE:], "little")
        if not data.startswith(MAGIC) or checksum != frame.checksum:
            raise Corrupt(f"the frame at byte {frame.position} is not what the seek table lists")
        return data

    def contents(self, index: int) -> bytes | None:
        """A frame's part of the image, checked; None for zeros, of the frame's length."""
        frame = self.frames[index]
        data = self.stored(index)
        try:
            if frame.length > CHUNK:
                require_zeros(data, frame.length)
                return None
            if holds_zeros(data, frame.length):
                return None
            contents = decompress_block(data, frame.length)
        except Corrupt as error:
            raise Corrupt(f"at byte {frame.position} of the archive, {error.message}") from None
        if len(contents) != frame.length:
            raise Corrupt(
                f"the frame at byte {frame.position} holds {len(contents)} bytes and the seek"
                f" table says {frame.length}"
            )
        return contents

    def read(self) -> Iterator[bytes]:
        """The image from start to end, in pieces of at most a chunk, and then its digest
        checked."""
        digest = ImageDigest()
        for index in range(len(self.frames)):
            length = self.frames[index].length
            data = self.contents(index)
            if data is not None:
                digest.add(chunk_digest(data))
                yield data
                continue
            digest.add_zeros(length)
            for begin in range(0, length, CHUNK):
                yield ZEROS[: length - begin]
        if digest.hexdigest() != self.digest:
            raise Corrupt("the image does not have the digest that the archive states")


class Unpacked:
    """The image in an archive of ours, to be read at any offset."""

    def __init__(self, archive: SeekableArchive) -> None:
        self._archive = archive
        self.size = archive.size

    def read_at(self, offset: int, length: int) -> bytes:
        found, end = b"", min(offset + length, self.size)
        while offset < end:
            index = self._archive.frames.find(offset)
            frame = self._archive.frames[index]
            stop = min(end, frame.end)
            data = self._archive.contents(index)
            begin = offset - frame.offset
            found += bytes(stop - offset) if data is None else data[begin:][: stop - offset]
            offset = stop
        return found


def frames_at_start(source: ArchiveSource, size: int) -> Iterator[tuple[int, bytes, int]]:
    """The frames of an archive of ours that was not finished, of an image of `size` bytes: each
    frame's position, its bytes, and how many bytes of the image it stands for. Raises `Corrupt` at
    the first that is cut off, is no frame, or lies on no chunk boundary. Only decompressing a frame
    tells what is in it."""
    cursor = Cursor(source, ahead=_AHEAD)
    offset = 0
    while offset < size and not cursor.at_end:
        position = cursor.position
        try:
            length = skip_frame(cursor, take_header(cursor), HeaderBudget(_MOST_BLOCKS))
        except OverBudget:
            return
        stored = cursor.position - position
        if not length or not _plausible(stored, length) or length > size - offset:
            return
        if length % CHUNK and offset + length != size:
            return
        cursor.give_back(stored)
        yield position, cursor.take(stored), length
        offset += length


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


def _read_summary(source: ArchiveSource, at: int, entry: tuple[int, int, int]) -> Summary | None:
    stored, length, checksum = entry
    if (length, checksum) != (0, _EMPTY_CHECKSUM) or at < 0:
        return None
    if not SKIPPABLE.size <= stored <= _MOST_JSON:
        return None
    frame = source.read_at(at, stored)
    if SKIPPABLE.unpack_from(frame) != (_JSON_MAGIC, stored - SKIPPABLE.size):
        return None
    try:
        return msgspec.json.decode(frame[SKIPPABLE.size :], type=Summary)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # msgspec has no error of its own for a string that is not UTF-8


def _check_summary(summary: Summary, frames: FrameTable) -> None:
    if (summary.version, summary.chunk) != (FORMAT_VERSION, CHUNK):
        raise Corrupt(
            f"the archive says version {summary.version} and chunks of {summary.chunk} bytes;"
            f" this virtstore reads version {FORMAT_VERSION} and {CHUNK}. It is damaged, or a"
            " newer virtstore made it (`zstd -d` restores it then)"
        )
    if not 0 <= summary.size <= MAX_SIZE or summary.size != frames.image_size:
        raise Corrupt(
            f"the archive says {summary.size} bytes of image, its seek table {frames.image_size}"
        )
    if len(summary.digest) != 64 or set(summary.digest) - set("0123456789abcdef"):
        raise Corrupt("the archive states no digest of its image")


def _check_frames(frames: FrameTable) -> None:
    last = len(frames) - 1
    for index, (stored, length) in enumerate(frames.sizes()):
        if length == CHUNK and _LEAST_FOR_A_CHUNK <= stored <= MAX_FRAME:
            continue  # as nearly all are: a long table is gone through in half the time
        if not _plausible(stored, length) or (length % CHUNK and index != last):
            raise Corrupt(f"the seek table's entry {index} is damaged: {stored} bytes for {length}")


def _plausible(stored: int, length: int) -> bool:
    """Whether a frame of `stored` bytes can hold `length`, which is at most a chunk, or
    whole chunks of zeros."""
    if not 0 < length <= MAX_ZEROS or (length > CHUNK and length % CHUNK):
        return False
    return stored <= MAX_FRAME and length <= stored // _SMALLEST_BLOCK * MAX_BLOCK
