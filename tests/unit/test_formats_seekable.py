"""An archive of ours is read at random, and nothing in it goes unverified."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import ours

from virtstore.digest import CHUNK, ImageDigest, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.chunk_frames import compress_block
from virtstore.formats.seek_table import ENTRY, FrameTable, encode_table
from virtstore.formats.seekable import SeekableArchive, SeekableWriter
from virtstore.formats.zstd import Zstd

TEXT = (b"all work and no play makes a dull image. " * 30000)[:CHUNK]
NOISE = random.Random(2).randbytes(1000)
IMAGE = TEXT + bytes(3 * CHUNK) + NOISE

Entry = tuple[int, int, int]
EMPTY_CHECKSUM = 0x51D8E999


class Bytes:
    """An archive in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class Parts:
    """An archive taken apart, to be put together again with a part changed."""

    def __init__(self, archive: bytes) -> None:
        count = struct.unpack("<I", archive[-9:-5])[0]
        table_at = len(archive) - 17 - 12 * count
        self.entries: list[Entry] = list(ENTRY.iter_unpack(archive[table_at + 8 : -9]))
        json_at = table_at - self.entries[-1][0]
        self.summary = msgspec.json.decode(archive[json_at + 8 : table_at], type=dict[str, object])
        self.frames: list[bytes] = []
        at = 0
        for stored, _, _ in self.entries[:-1]:
            self.frames.append(archive[at : at + stored])
            at += stored
        assert at == json_at
        del self.entries[-1]

    def build(self) -> bytes:
        text = msgspec.json.encode(self.summary)
        last = (8 + len(text), 0, EMPTY_CHECKSUM)
        fields = array("I", [number for entry in [*self.entries, last] for number in entry])
        json_frame = struct.pack("<II", 0x184D2A50, len(text)) + text
        return b"".join(self.frames) + json_frame + encode_table(fields)


def _archive(image: bytes = IMAGE) -> bytes:
    return ours.archive_of(image)


def _open(data: bytes) -> SeekableArchive:
    archive = SeekableArchive.open(Bytes(data))
    assert archive is not None
    return archive


def _digest(image: bytes) -> str:
    digest = ImageDigest()
    for begin in range(0, len(image), CHUNK):
        digest.add(chunk_digest(image[begin : begin + CHUNK]))
    return digest.hexdigest()


def test_an_archive_says_what_it_holds() -> None:
    archive = _open(_archive())
    assert archive.size == len(IMAGE)
    assert archive.digest == _digest(IMAGE)
    assert [(f.offset, f.length) for f in archive.frames] == [
        (0, CHUNK),
        (CHUNK, 2 * CHUNK),
        (3 * CHUNK, CHUNK),
        (4 * CHUNK, len(NOISE)),
    ]


def test_frames_lie_end_to_end_from_the_first_byte() -> None:
    archive = _open(_archive())
    position = 0
    for frame in archive.frames:
        assert frame.position == position
        position += frame.stored
    assert position == archive.frames.archive_size


def test_a_frames_checksum_in_the_table_ends_the_frame() -> None:
    archive = _open(_archive())
    for number, frame in enumerate(archive.frames):
        assert archive.stored(number)[-4:] == struct.pack("<I", frame.checksum)


def test_the_checksum_of_nothing_is_what_zstd_computes() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"")
    assert frame[-4:] == struct.pack("<I", EMPTY_CHECKSUM)


def test_frames_are_read_in_any_order() -> None:
    archive = _open(_archive())
    assert archive.contents(3) == NOISE
    assert archive.contents(2) is None
    assert archive.contents(1) is None
    assert archive.contents(0) == TEXT


def test_the_frame_of_an_offset_is_found() -> None:
    frames = _open(_archive()).frames
    for offset in (0, CHUNK - 1, CHUNK, 3 * CHUNK - 1, 3 * CHUNK, 4 * CHUNK, len(IMAGE) - 1):
        frame = frames[frames.find(offset)]
        assert frame.offset <= offset < frame.end
    for outside in (-1, len(IMAGE)):
        with pytest.raises(IndexError):
            frames.find(outside)


@settings(max_examples=25)
@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=5),
    rest=st.integers(0, 3000),
    step=st.sampled_from([1000, 65536, CHUNK - 1, CHUNK, 3 * CHUNK]),
)
def test_any_image_comes_back_whatever_the_pieces_it_came_in(
    runs: list[tuple[bool, int]], rest: int, step: int
) -> None:
    image = b"".join((TEXT if data else bytes(CHUNK)) * count for data, count in runs)
    image += NOISE[:1] * rest
    written: list[bytes] = []
    writer = ours.Writer(written.append)
    for begin in range(0, len(image), step):
        writer.write(image[begin : begin + step])
    writer.finish()
    archive = _open(b"".join(written))
    assert b"".join(archive.read()) == image
    assert (archive.size, archive.digest) == (len(image), _digest(image))


def test_a_frame_from_another_archive_is_stored_as_it_is() -> None:
    first = _open(_archive())
    written: list[bytes] = []
    writer = SeekableWriter(written.append)
    for number, frame in enumerate(first.frames):
        writer.add_frame(first.stored(number), frame.length)
    writer.finish(first.digest)
    assert b"".join(written) == _archive()


def test_a_frame_behind_one_that_is_no_whole_chunk_is_refused() -> None:
    writer = SeekableWriter(lambda data: None)
    writer.add_frame(compress_block(b"short"), 5)
    with pytest.raises(ValueError, match="chunk boundary"):
        writer.add_frame(compress_block(b"more"), 4)


def test_a_terabyte_of_zeros_is_written_and_opened_without_reading_it() -> None:
    written: list[bytes] = []
    writer = SeekableWriter(written.append)
    writer.add_zeros(1 << 40)
    digest = ImageDigest()
    digest.add_zeros(1 << 40)
    writer.finish(digest.hexdigest())
    archive = _open(b"".join(written))
    assert archive.size == 1 << 40
    assert len(archive.frames) == 1024
    assert archive.contents(1023) is None


def test_a_table_of_a_million_frames_takes_little_more_than_it_takes_in_the_archive() -> None:
    table = FrameTable(array("I", (1000, CHUNK, 7)) * (1 << 20))
    held = sum(len(a) * a.itemsize for a in vars(table).values())
    assert held <= 12.5 * (1 << 20)
    assert table[1 << 19].offset == 1 << 39


class Sparse(Bytes):
    """An archive of which the end is there, behind `size` bytes of whatever it may be."""

    def __init__(self, size: int, end: bytes) -> None:
        super().__init__(end)
        self._begin = size
        self.size = size + len(end)

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= self._begin
        return super().read_at(offset - self._begin, length)


def test_opening_an_archive_takes_little_more_memory_than_its_seek_table() -> None:
    frames = 300_000
    parts = Parts(_archive())
    parts.frames, parts.entries = [], [(1000, CHUNK, 7)] * frames
    parts.summary["size"] = frames * CHUNK
    source = Sparse(frames * 1000, parts.build())
    tracemalloc.start()
    try:
        assert Zstd().image_size(source) == frames * CHUNK
        assert tracemalloc.get_traced_memory()[1] < 12 * frames + (4 << 20)
    finally:
        tracemalloc.stop()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(4, 5000), st.integers(1, CHUNK)), max_size=300))
def test_a_frame_is_where_those_before_it_end(sizes: list[tuple[int, int]]) -> None:
    fields = array("I", [number for stored, length in sizes for number in (stored, length, 9)])
    table = FrameTable(fields)
    assert list(table.sizes()) == sizes
    assert list(table) == [table[index] for index in range(len(table))]
    offset = position = 0
    for index, (stored, length) in enumerate(sizes):
        assert table[index] == (offset, length, position, stored, 9)
        assert table.find(offset) == table.find(offset + length - 1) == index
        offset, position = offset + length, position + stored
    assert (table.image_size, table.archive_size) == (offset, position)


def _one_byte_more_than_declared(parts: Parts) -> None:
    parts.summary["size"] = len(IMAGE) - 1


def _eight_exbibytes(parts: Parts) -> None:
    parts.summary["size"] = 1 << 63


def _negative(parts: Parts) -> None:
    parts.summary["size"] = -1


def _another_version(parts: Parts) -> None:
    parts.summary["version"] = 2


def _another_chunk_size(parts: Parts) -> None:
    parts.summary["chunk"] = 2 * CHUNK


def _a_digest_of_another_kind(parts: Parts) -> None:
    parts.summary["digest"] = str(parts.summary["digest"]).upper()


def _a_frame_that_holds_nothing(parts: Parts) -> None:
    parts.frames.append(compress_block(b"x"))
    parts.entries.append((len(parts.frames[-1]), 0, 0))


def _a_frame_off_the_chunk_grid(parts: Parts) -> None:
    parts.frames.append(compress_block(b"x"))
    parts.entries.append((len(parts.frames[-1]), 1, 0))
    parts.summary["size"] = len(IMAGE) + 1


def _more_than_a_frame_of_its_size_can_hold(parts: Parts) -> None:
    stored, _, checksum = parts.entries[1]
    parts.entries[1] = (stored, 1 << 30, checksum)
    parts.summary["size"] = len(IMAGE) - 2 * CHUNK + (1 << 30)


def _a_frame_longer_than_a_chunk_can_be_stored(parts: Parts) -> None:
    parts.frames[0] += bytes(2 * CHUNK)
    stored, length, checksum = parts.entries[0]
    parts.entries[0] = (stored + 2 * CHUNK, length, checksum)


@pytest.mark.parametrize(
    "change",
    [
        _one_byte_more_than_declared,
        _eight_exbibytes,
        _negative,
        _another_version,
        _another_chunk_size,
        _a_digest_of_another_kind,
        _a_frame_that_holds_nothing,
        _a_frame_off_the_chunk_grid,
        _more_than_a_frame_of_its_size_can_hold,
        _a_frame_longer_than_a_chunk_can_be_stored,
    ],
)
def test_an_archive_that_contradicts_itself_is_not_opened(change: Callable[[Parts], None]) -> None:
    parts = Parts(_archive())
    change(parts)
    with pytest.raises(Corrupt):
        SeekableArchive.open(Bytes(parts.build()))


def _wrong_digest(parts: Parts) -> None:
    parts.summary["digest"] = "0" * 64


def _wrong_checksum(parts: Parts) -> None:
    stored, length, checksum = parts.entries[0]
    parts.entries[0] = (stored, length, checksum ^ 1)


def _frames_swapped_with_their_entries(parts: Parts) -> None:
    parts.frames[0:3] = [parts.frames[2], parts.frames[1], parts.frames[0]]
    parts.entries[0:3] = [parts.entries[2], parts.entries[1], parts.entries[0]]


def _a_frame_in_place_of_another(parts: Parts) -> None:
    data = compress_block(TEXT[::-1])
    parts.frames[0] = data
    parts.entries[0] = (len(data), CHUNK, int.from_bytes(data[-4:], "little"))


def _data_where_only_zeros_can_be(parts: Parts) -> None:
    data = zstandard.ZstdCompressor(1, write_checksum=True).compress(TEXT + TEXT)
    parts.frames[1] = data
    parts.entries[1] = (len(data), 2 * CHUNK, int.from_bytes(data[-4:], "little"))


def _junk_behind_a_frame(parts: Parts) -> None:
    data = parts.frames[0] + b"junkjunk"
    parts.frames[0] = data
    parts.entries[0] = (len(data), CHUNK, int.from_bytes(data[-4:], "little"))


def _a_frame_shorter_than_the_table_says(parts: Parts) -> None:
    data = compress_block(TEXT[:-1])
    parts.frames[0] = data
    parts.entries[0] = (len(data), CHUNK, int.from_bytes(data[-4:], "little"))


@pytest.mark.parametrize(
    "change",
    [
        _wrong_digest,
        _wrong_checksum,
        _frames_swapped_with_their_entries,
        _a_frame_in_place_of_another,
        _data_where_only_zeros_can_be,
        _junk_behind_a_frame,
        _a_frame_shorter_than_the_table_says,
    ],
)
def test_what_a_well_formed_archive_gets_wrong_is_seen_when_it_is_read(
    change: Callable[[Parts], None],
) -> None:
    parts = Parts(_archive())
    change(parts)
    archive = _open(parts.build())
    with pytest.raises(Corrupt):
        list(archive.read())


def test_zeros_that_another_zstd_compressed_are_zeros() -> None:
    parts = Parts(_archive())
    data = zstandard.ZstdCompressor(9, write_checksum=True).compress(bytes(2 * CHUNK))
    parts.frames[1] = data
    parts.entries[1] = (len(data), 2 * CHUNK, int.from_bytes(data[-4:], "little"))
    assert b"".join(_open(parts.build()).read()) == IMAGE


def test_parts_put_together_again_are_the_archive() -> None:
    assert Parts(_archive()).build() == _archive()


def test_every_flipped_bit_behind_the_frames_is_corrupt() -> None:
    archive = _archive(NOISE)
    for bit in range(8 * _open(archive).frames.archive_size, 8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            list(Zstd().read(Bytes(bytes(damaged))))


@pytest.mark.parametrize("kept", range(5))
def test_an_archive_cut_off_between_two_frames_is_not_taken_for_a_shorter_one(kept: int) -> None:
    frames = Parts(_archive()).frames
    cut = Bytes(b"".join(frames[:kept]))
    assert SeekableArchive.open(cut) is None
    with pytest.raises(Corrupt):
        list(Zstd().read(cut))
    with pytest.raises(Corrupt):
        Zstd().image_size(cut)


def test_junk_before_between_or_behind_is_refused() -> None:
    parts = Parts(_archive())
    for place in range(len(parts.frames) + 1):
        parts = Parts(_archive())
        parts.frames.insert(place, b"junk")
        with pytest.raises(Corrupt):
            list(Zstd().read(Bytes(parts.build())))
    with pytest.raises(Corrupt):
        list(Zstd().read(Bytes(_archive() + b"junk")))


def test_two_archives_in_one_file_are_one_image() -> None:
    both = Bytes(_archive() + _archive(NOISE))
    assert SeekableArchive.open(both) is None
    assert b"".join(Zstd().read(both)) == IMAGE + NOISE
    assert Zstd().image_size(both) == len(IMAGE) + len(NOISE)


def test_the_second_of_two_archives_cut_off_between_frames_is_seen() -> None:
    second = Parts(_archive())
    both = Bytes(_archive() + b"".join(second.frames[:2]))
    with pytest.raises(Corrupt, match="missing or damaged"):
        list(Zstd().read(both))


def test_the_specifications_example_is_what_the_writer_writes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "archive-format.md").read_text()
    example = page.split("<!-- example -->")[1]
    shown = bytes.fromhex("".join(re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} )+)", example, re.M)))
    assert _archive(b"virtstore\n") == shown
