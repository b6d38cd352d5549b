"""An image or an archive that is read at any offset: the right bytes, and the right zeros."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import ours

from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.formats.seekable import SeekableArchive
from virtstore.model import Extent
from virtstore.transfer.random_access import ArchiveContents, Zeros

#: Chunks of an image: data where there is a number, else zeros; and its end.
CHUNKS = (1, None, None, 2, 3, None)
IMAGE = b"".join(
    bytes(CHUNK) if each is None else random.Random(each).randbytes(CHUNK) for each in CHUNKS
) + bytes(700)


class InMemory:
    """An archive; `reads` counts what was read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + length]


def archived(image: bytes) -> InMemory:
    return InMemory(ours.archive_of(image))


def contents_of(source: InMemory) -> ArchiveContents:
    archive = SeekableArchive.open(source)
    assert archive
    return ArchiveContents(archive)


@pytest.fixture(scope="module")
def whole() -> InMemory:
    return archived(IMAGE)


@given(st.data())
def test_any_range_of_an_archive_reads_as_the_image(whole: InMemory, data: st.DataObject) -> None:
    contents = contents_of(whole)
    offset = data.draw(st.integers(0, len(IMAGE) - 1))
    length = data.draw(st.integers(1, min(2 * CHUNK, len(IMAGE) - offset)))
    found = contents.read(offset, length)
    assert (bytes(length) if found is None else found) == IMAGE[offset : offset + length]


def test_a_range_of_zeros_moves_no_bytes(whole: InMemory) -> None:
    assert contents_of(whole).read(CHUNK + 1, CHUNK) is None


def test_who_reads_a_block_again_and_again_has_it_decompressed_once(whole: InMemory) -> None:
    contents = contents_of(whole)
    contents.read(0, 1)
    before = whole.reads
    assert contents.read(5, 100) == IMAGE[5:105]
    assert whole.reads == before


def test_what_is_kept_of_an_archive_does_not_grow_with_it() -> None:
    contents = contents_of(archived(b"".join(random.Random(n).randbytes(CHUNK) for n in range(40))))
    for number in range(40):
        contents.read(number * CHUNK, 1)
    assert sum(len(data or b"") for data in contents._kept.values()) == 16 * CHUNK


def test_a_damaged_block_fails_alone(whole: InMemory) -> None:
    damaged = bytearray(whole.data)
    archive = SeekableArchive.open(whole)
    assert archive
    frame = archive.frames[archive.frames.find(3 * CHUNK)]
    damaged[frame.position + 5000] ^= 1
    contents = contents_of(InMemory(bytes(damaged)))
    with pytest.raises(Corrupt, match=str(frame.position)):
        contents.read(3 * CHUNK, 1)
    assert contents.read(4 * CHUNK, 9) == IMAGE[4 * CHUNK :][:9]


def test_an_archives_zeros_are_told_as_such(whole: InMemory) -> None:
    contents = contents_of(whole)
    zeros = Zeros(contents.size, contents.extents)
    assert zeros.runs(0, contents.size, 99) == [
        (CHUNK, False),
        (2 * CHUNK, True),
        (2 * CHUNK, False),
        (CHUNK + 700, True),
    ]


class Map:
    """Extents of 10 bytes, in turn data and zeros; `begun` counts how often they are looked for."""

    size = 1000

    def __init__(self) -> None:
        self.begun = 0

    def extents(self, start: int) -> Iterator[Extent]:
        self.begun += 1
        for offset in range(start // 10 * 10, self.size, 10):
            yield Extent(offset, 10, "zero" if offset // 10 % 2 else "data")


@given(
    st.lists(st.tuples(st.integers(0, 999), st.integers(1, 1000), st.integers(1, 5)), max_size=9)
)
def test_zeros_are_told_of_any_range_in_any_order(asked: list[tuple[int, int, int]]) -> None:
    found = Map()
    zeros = Zeros(found.size, found.extents)
    for offset, length, most in asked:
        length = min(length, found.size - offset)
        runs = zeros.runs(offset, length, most)
        assert len(runs) <= most
        assert 0 < sum(count for count, _ in runs) <= length
        for count, zero in runs:
            assert {byte // 10 % 2 == 1 for byte in range(offset, offset + count)} == {zero}
            offset += count


def test_who_asks_from_start_to_end_has_each_extent_looked_for_once() -> None:
    found = Map()
    zeros = Zeros(found.size, found.extents)
    for offset in range(0, found.size, 5):
        zeros.runs(offset, 5, 9)
    assert found.begun == 1


def test_who_asks_for_one_run_at_a_time_has_each_extent_looked_for_once() -> None:
    found = Map()
    zeros = Zeros(found.size, found.extents)
    offset = 0
    while offset < found.size:
        zeros.runs(offset, found.size - offset, 99)
        offset += zeros.runs(offset, found.size - offset, 1)[0][0]
    assert found.begun == 1


def test_extents_that_were_told_are_not_all_kept() -> None:
    found = Map()
    found.size = 10 * 50_000
    zeros = Zeros(found.size, found.extents)
    for offset in range(0, found.size, 40_000):
        zeros.runs(offset, 40_000, 4096)
    assert len(zeros._seen) < 10_000
    assert zeros.runs(15, 20, 9) == [(5, True), (10, False), (5, True)]


def test_where_extents_cannot_be_told_all_is_to_be_read() -> None:
    def broken(start: int) -> Iterator[Extent]:
        yield Extent(0, 10, "zero")
        raise OSError("the disk is broken")

    assert Zeros(100, broken).runs(0, 100, 9) == [(10, True)]
    assert Zeros(100, broken).runs(50, 50, 9) == [(50, False)]
