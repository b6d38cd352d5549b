"""virtstore's own archives: zstd frames, their seals, a JSON frame, a seek table.

docs/archive-format.md is the specification. Every byte of an archive is held against
something: frames against their checksums and the table, the table against the archive's
length and the JSON frame, the image against its size and digest. What `open` accepts has
a sound structure; what `contents` returns has passed its checks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import msgspec
from blake3 import blake3

from virtstore.digest import CHUNK, ZEROS, ImageDigest, chunk_digest, zero_digest
from virtstore.errors import Corrupt, Unsupported
from virtstore.formats import summary as summaries
from virtstore.formats.archive_end import EMPTY_CHECKSUM, JSON_MAGIC, SEALS_MAGIC, found_frames
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
from virtstore.formats.seals import NOTHING, SEAL, Seal, Seals, checksum
from virtstore.formats.seek_table import (
    MAX_FRAMES,
    SKIPPABLE,
    FrameTable,
    encode_table,
    padding_at,
    padding_of,
)
from virtstore.formats.summary import UNLABELLED, VERSION, Label, Summary
from virtstore.formats.zstd_frames import (
    CHECKSUM_SIZE,
    MAGIC,
    MAX_BLOCK,
    skip_frame,
    take_header,
)

_MOST_BLOCKS: Final = MAX_ZEROS // MAX_BLOCK
_AHEAD: Final = 1 << 20  # so that few frames are read in two parts
_SMALLEST_BLOCK: Final = 4  # a block's header and the one byte that it repeats
_LEAST_FOR_A_CHUNK: Final = CHUNK // MAX_BLOCK * _SMALLEST_BLOCK


class SeekableWriter:
    """Writes an archive front to back, of frames that are ready made.

    Every frame begins on a chunk boundary of the image; the image's last may end anywhere.
    """

    def __init__(self, sink: Sink, label: Label = UNLABELLED) -> None:
        self._sink = sink
        self._label = label
        self._table = array("I")
        self._seals = bytearray()
        self._position = 0
        self._padded = 0
        self.image_size = 0

    def add_frame(self, frame: bytes, length: int, seal: Seal) -> None:
        """The image's next `length` bytes, as `compress_block` made them or another
        archive had them. The frame is taken as it is: whoever gives it has checked it."""
        if length <= CHUNK:
            self.pad()
        self.add_stored(len(frame), frame[-CHECKSUM_SIZE:], length, seal)
        self._sink(frame)

    def add_stored(self, stored: int, ending: bytes, length: int, seal: Seal) -> None:
        """The same for a frame of `stored` bytes, which end in `ending`, that is in its place: at
        `position`, behind `pad`."""
        if self.image_size % CHUNK:
            raise ValueError("a frame follows one that did not end on a chunk boundary")
        if len(self._seals) // SEAL.size >= MAX_FRAMES - 2:
            raise Unsupported("an archive can hold 16 TiB of data, and this image has more")
        self._table.extend((self._padded + stored, length, int.from_bytes(ending, "little")))
        zeros = seal.digest == zero_digest(length) if length <= CHUNK else True
        self._seals += SEAL.pack(NOTHING if zeros else seal.digest, seal.checksum)
        self._padded = 0
        self._position += stored
        self.image_size += length

    def add_zeros(self, length: int) -> None:
        """The image's next `length` bytes are zeros."""
        for frame, held in zero_frames(length):
            self.add_frame(frame, held, Seal(NOTHING, checksum(frame)))

    def pad(self) -> int:
        """Go on to where the frame of a chunk may begin. Returns that position, in bytes."""
        gap = padding_at(self._position, self._label.align)
        if gap:
            self._sink(padding_of(gap))
            self._position += gap
            self._padded += gap
        return self._position

    def finish(self, digest: str) -> None:
        """The image has ended and has this digest."""
        summary = Summary(
            "virtstore",
            VERSION,
            self.image_size,
            CHUNK,
            digest,
            seals=blake3(self._seals).hexdigest(),
            align=self._label.align,
            raw=self._label.raw,
            origin=msgspec.Raw(msgspec.json.encode(self._label.origin)),
        )
        self._add_skippable(SEALS_MAGIC, bytes(self._seals))
        self._add_skippable(JSON_MAGIC, summaries.encode(summary))
        self._sink(encode_table(self._table))

    def _add_skippable(self, magic: int, data: bytes) -> None:
        # The seekable format lists skippable frames too, as frames that hold nothing;
        # pyzstd refuses an archive with a gap between the frames listed and the table.
        self._sink(SKIPPABLE.pack(magic, len(data)) + data)
        self._table.extend((SKIPPABLE.size + len(data), 0, EMPTY_CHECKSUM))


class SeekableArchive:
    """An archive of ours, to be read at any frame by any number of threads.

    `seals` is None for one of version 1. `raw`: it says that its image is a raw disk. `origin`:
    what it was made of, if it says that.
    """

    def __init__(
        self, source: ArchiveSource, summary: Summary, frames: FrameTable, seals: Seals | None
    ) -> None:
        self._source = source
        self.size = summary.size
        self.digest = summary.digest
        self.raw = summary.raw
        self.origin = summary.made_of()
        self.frames = frames
        self.seals = seals

    @classmethod
    def open(cls, source: ArchiveSource) -> SeekableArchive | None:
        """The archive, or None if its end is not that of one of ours.

        Then it may still be a zstd archive, to be read as a stream; where frames of ours
        are in it, that reader says that their end is missing. Raises `Corrupt` where the
        archive says that it is ours and its parts contradict each other.
        """
        found = found_frames(source)
        if found is None:
            return None
        end, frames = found
        _check_frames(frames)
        seals = end.seals_of(source, frames)
        return cls(source, end.summary, frames, seals)

    def stored(self, index: int) -> bytes:
        """A frame as it lies in the archive, found to be the one that the table lists.
        That its contents are sound, only decompressing it tells."""
        frame = self.frames[index]
        begin = frame.position - frame.padding
        data = self._source.read_at(begin, frame.padding + frame.stored)
        if len(data) < frame.padding + frame.stored:
            raise Corrupt(f"the archive is truncated in the frame at byte {frame.position}")
        if frame.padding:
            if not data.startswith(padding_of(frame.padding)):
                raise Corrupt(f"the padding at byte {begin} is damaged")
            data = data[frame.padding :]
        ending = int.from_bytes(data[-CHECKSUM_SIZE:], "little")
        if not data.startswith(MAGIC) or ending != frame.checksum:
            raise Corrupt(f"the frame at byte {frame.position} is not what the seek table lists")
        return data

    def sealed(self, index: int) -> bytes:
        """The same, found to be what was written there. Of an archive of version 1 only
        decompressing tells that."""
        data = self.stored(index)
        if self.seals and checksum(data) != self.seals[index].checksum:
            raise Corrupt(
                f"the frame at byte {self.frames[index].position} does not have the checksum that"
                " the archive keeps of it"
            )
        return data

    def contents(self, index: int, *, strict: bool = False) -> bytes | None:
        """A frame's part of the image, checked; None for zeros, of the frame's length. `strict`:
        its bytes are held against the checksum in its seal as well."""
        frame = self.frames[index]
        data = self.sealed(index) if strict else self.stored(index)
        try:
            contents = _decompressed(data, frame.length)
        except Corrupt as error:
            raise Corrupt(f"at byte {frame.position} of the archive, {error.message}") from None
        if contents is not None and len(contents) != frame.length:
            raise Corrupt(
                f"the frame at byte {frame.position} holds {len(contents)} bytes and the seek"
                f" table says {frame.length}"
            )
        return contents

    def read(self) -> Iterator[bytes]:
        """The image from start to end, in pieces of at most a chunk, and then its digest
        checked."""
        digest = ImageDigest()
        if self.seals:
            self.seals.check()
        for index in range(len(self.frames)):
            length = self.frames[index].length
            data = self.contents(index, strict=True)
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
        _skip_padding(cursor)
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


def _skip_padding(cursor: Cursor) -> None:
    for align in summaries.ALIGNMENTS:
        gap = padding_at(cursor.position, align)
        if gap and cursor.peek(gap) == padding_of(gap):
            cursor.skip(gap)
            return


def _decompressed(frame: bytes, length: int) -> bytes | None:
    """What a frame holds; None for zeros."""
    if length > CHUNK:
        require_zeros(frame, length)
        return None
    return None if holds_zeros(frame, length) else decompress_block(frame, length)


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
