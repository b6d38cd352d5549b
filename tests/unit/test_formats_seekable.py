"""An archive of ours is read at random, and nothing in it goes unverified."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from array import array
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import ours

from virtstore.digest import CHUNK, ImageDigest, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.archive_end import stated_size
from virtstore.formats.chunk_frames import compress_block
from virtstore.formats.seals import NOTHING, SEAL, Seal, checksum
from virtstore.formats.seek_table import ENTRY, FrameTable, encode_table
from virtstore.formats.seekable import SeekableArchive, SeekableWriter
from virtstore.formats.summary import ALIGNMENTS, Label
from virtstore.formats.zstd import Zstd
from virtstore.model import InnerFilesystem, Origin

TEXT = (b"all work and no play makes a dull image. " * 30000)[:CHUNK]
NOISE = random.Random(2).randbytes(1000)
IMAGE = TEXT + bytes(3 * CHUNK) + NOISE

ORIGIN = Origin(
    datetime(2026, 11, 28, 2, tzinfo=UTC),
    "a",
    "/dev/vg0/web",
    "lvm",
    "snapshot",
    quiesced=True,
    filesystems=(InnerFilesystem("ext4", "root", 1),),
)

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
        del self.summary["check"]
        seals_at = json_at - self.entries[-2][0]
        self.seals = [*SEAL.iter_unpack(archive[seals_at + 8 : json_at])]
        self.frames: list[bytes] = []
        at = 0
        for stored, _, _ in self.entries[:-2]:
            self.frames.append(archive[at : at + stored])
            at += stored
        assert at == seals_at
        del self.entries[-2:]

    def put(self, number: int, frame: bytes, length: int) -> None:
        """Put a frame, of which everything that is said is right, in place of another."""
        self.frames[number] = frame
        self.entries[number] = (len(frame), length, int.from_bytes(frame[-4:], "little"))
        self.seals[number] = (self.seals[number][0], checksum(frame))

    def build(self, *, covered: bool = True) -> bytes:
        """The archive. `covered`: with the digest of the seals as they are now."""
        seals = b"".join(SEAL.pack(*seal) for seal in self.seals)
        if covered:
            self.summary["seals"] = blake3(seals).hexdigest()
        text = msgspec.json.encode(self.summary)[:-1]
        text += b',"check":"' + blake3(text).hexdigest(length=16).encode() + b'"}'
        sizes = [(8 + len(part), 0, EMPTY_CHECKSUM) for part in (seals, text)]
        fields = array("I", [number for entry in [*self.entries, *sizes] for number in entry])
        behind = [struct.pack("<II", 0x184D2A52, len(seals)) + seals]
        behind += [struct.pack("<II", 0x184D2A50, len(text)) + text, encode_table(fields)]
        return b"".join([*self.frames, *behind])


def _archive(image: bytes = IMAGE, align: int = 1) -> bytes:
    return ours.archive_of(image, Label(align))


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


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_frames_lie_end_to_end_from_the_first_byte_but_for_padding(align: int) -> None:
    archive = _open(_archive(align=align))
    position = 0
    for frame in archive.frames:
        assert frame.position == position + frame.padding
        assert frame.length > CHUNK or frame.position % align == 0
        assert frame.padding < align + 8
        position = frame.position + frame.stored
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
    align=st.sampled_from(ALIGNMENTS),
)
def test_any_image_comes_back_whatever_the_pieces_it_came_in(
    runs: list[tuple[bool, int]], rest: int, step: int, align: int
) -> None:
    image = b"".join((TEXT if data else bytes(CHUNK)) * count for data, count in runs)
    image += NOISE[:1] * rest
    written: list[bytes] = []
    writer = ours.Writer(written.append, label=Label(align))
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
        assert first.seals
        writer.add_frame(first.stored(number), frame.length, first.seals[number])
    writer.finish(first.digest)
    assert b"".join(written) == _archive()


def test_a_frame_behind_one_that_is_no_whole_chunk_is_refused() -> None:
    writer = SeekableWriter(lambda data: None)
    seal = Seal(chunk_digest(b"short"), bytes(16))
    writer.add_frame(compress_block(b"short"), 5, seal)
    with pytest.raises(ValueError, match="chunk boundary"):
        writer.add_frame(compress_block(b"more"), 4, seal)


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
    held = sum(len(a) * a.itemsize for a in vars(table).values() if isinstance(a, array))
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
    parts.seals *= frames // len(parts.seals)
    parts.summary["size"] = frames * CHUNK
    source = Sparse(frames * 1000, parts.build())
    tracemalloc.start()
    try:
        assert Zstd().image_size(source) == frames * CHUNK
        # The seals are not read for that, however many there are.
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
        assert table[index] == (offset, length, position, stored, 9, 0)
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
    parts.summary["version"] = 3


def _another_alignment(parts: Parts) -> None:
    parts.summary["align"] = 3


def _fewer_seals_than_frames(parts: Parts) -> None:
    del parts.seals[-1]


def _no_digest_of_the_seals(parts: Parts) -> None:
    parts.summary["version"] = 2
    parts.build = partial(parts.build, covered=False)  # type: ignore[method-assign]
    parts.summary["seals"] = ""


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
        _another_alignment,
        _fewer_seals_than_frames,
        _no_digest_of_the_seals,
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


def test_the_size_for_a_listing_is_told_by_the_sums_of_the_seek_table() -> None:
    whole = _archive()
    assert stated_size(Bytes(whole)) == len(IMAGE)
    assert stated_size(Bytes(whole + whole)) is None  # only a stream has both
    assert stated_size(Bytes(zstandard.compress(IMAGE))) is None
    parts = Parts(whole)
    _one_byte_more_than_declared(parts)
    with pytest.raises(Corrupt, match="its seek table"):
        stated_size(Bytes(parts.build()))
    parts = Parts(whole)
    _a_frame_off_the_chunk_grid(parts)  # which whoever reads it is told
    assert stated_size(Bytes(parts.build())) == len(IMAGE) + 1


def _wrong_digest(parts: Parts) -> None:
    parts.summary["digest"] = "0" * 64


def _wrong_checksum(parts: Parts) -> None:
    stored, length, checksum = parts.entries[0]
    parts.entries[0] = (stored, length, checksum ^ 1)


def _frames_swapped_with_their_entries(parts: Parts) -> None:
    parts.frames[0:3] = [parts.frames[2], parts.frames[1], parts.frames[0]]
    parts.entries[0:3] = [parts.entries[2], parts.entries[1], parts.entries[0]]


def _a_frame_in_place_of_another(parts: Parts) -> None:
    parts.put(0, compress_block(TEXT[::-1]), CHUNK)


def _data_where_only_zeros_can_be(parts: Parts) -> None:
    parts.put(1, zstandard.ZstdCompressor(1, write_checksum=True).compress(TEXT * 2), 2 * CHUNK)


def _junk_behind_a_frame(parts: Parts) -> None:
    parts.put(0, parts.frames[0] + b"junkjunk", CHUNK)


def _a_frame_shorter_than_the_table_says(parts: Parts) -> None:
    parts.put(0, compress_block(TEXT[:-1]), CHUNK)


def _a_seal_with_another_checksum(parts: Parts) -> None:
    parts.seals[0] = (parts.seals[0][0], bytes(16))


def _a_seal_with_another_digest(parts: Parts) -> None:
    parts.seals[0] = (bytes(31) + b"x", parts.seals[0][1])


def _a_seal_that_calls_data_zeros(parts: Parts) -> None:
    parts.seals[0] = (NOTHING, parts.seals[0][1])


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
        _a_seal_with_another_checksum,
        _a_seal_with_another_digest,
        _a_seal_that_calls_data_zeros,
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
    parts.put(1, data, 2 * CHUNK)
    assert b"".join(_open(parts.build()).read()) == IMAGE


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_parts_put_together_again_are_the_archive(align: int) -> None:
    assert Parts(_archive(align=align)).build() == _archive(align=align)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_every_flipped_bit_behind_the_frames_is_corrupt(align: int) -> None:
    archive = ours.archive_of(NOISE, Label(align, raw=True, origin=ORIGIN))
    for bit in range(8 * _open(archive).frames.archive_size, 8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            list(Zstd().read(Bytes(bytes(damaged))))


def test_every_flipped_bit_of_padding_is_corrupt() -> None:
    archive = _archive(NOISE + bytes(CHUNK - len(NOISE)) + NOISE, align=4096)
    second = _open(archive).frames[1]
    assert second.padding
    for bit in range(8 * (second.position - second.padding), 8 * second.position, 7):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            list(Zstd().read(Bytes(bytes(damaged))))


def test_an_archive_tells_what_it_was_made_of() -> None:
    archive = _open(ours.archive_of(NOISE, Label(raw=True, origin=ORIGIN)))
    assert archive.raw
    assert archive.origin == ORIGIN


def test_an_origin_in_words_that_are_not_known_here_is_passed_over() -> None:
    parts = Parts(_archive())
    parts.summary["origin"] = {"made": "in the year of the dragon"}
    parts.summary["something new"] = [1, 2]
    archive = _open(parts.build())
    assert archive.origin is None
    assert b"".join(archive.read()) == IMAGE


def test_the_first_version_of_the_format_is_read() -> None:
    archive = _open(ours.first_version_of(IMAGE))
    assert (archive.seals, archive.origin, archive.raw) == (None, None, False)
    assert b"".join(archive.read()) == IMAGE


def test_what_an_archive_holds_is_known_without_decompressing_it() -> None:
    archive = _open(_archive(align=4096))
    assert archive.seals
    chunks = [TEXT, None, None, NOISE]
    kept = [archive.seals[number].digest for number in range(4)]
    assert kept == [NOTHING if chunk is None else chunk_digest(chunk) for chunk in chunks]


def test_two_archives_with_padding_in_one_file_are_one_image() -> None:
    both = Bytes(_archive(align=4096) + _archive(NOISE, align=4096))
    assert b"".join(Zstd().read(both)) == IMAGE + NOISE


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
