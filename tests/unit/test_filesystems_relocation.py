"""A partition's place changes in its table, by writes of which each leaves a table that is whole;
of a GPT an interrupted move is told from damage."""

from __future__ import annotations

import struct
import zlib

import pytest
from tests.unit.test_filesystems_gpt import MIB, SIZE, NewDevice, gpt_image
from tests.unit.test_filesystems_mbr import CHAIN, SECTORS, Row, _table

from virtstore.errors import Unsafe, Unsupported
from virtstore.filesystems.partitions.change import apply, read_table
from virtstore.filesystems.partitions.gpt_copies import SWAP
from virtstore.filesystems.partitions.relocation import relocated, require_free, require_movable

SECTOR = 512
#: Of the second entry, relative to its array.
KIND, FIRST = 128, 128 + 32


def changed(image: bytearray, entries: int, lba: int, *fields: tuple[int, bytes]) -> None:
    """One copy of a GPT with other bytes in its array, and right checksums."""
    for at, data in fields:
        image[entries * SECTOR + at : entries * SECTOR + at + len(data)] = data
    array = image[entries * SECTOR : entries * SECTOR + 128 * 128]
    head = lba * SECTOR
    struct.pack_into("<I", image, head + 88, zlib.crc32(array))
    struct.pack_into("<I", image, head + 16, 0)
    struct.pack_into("<I", image, head + 16, zlib.crc32(image[head : head + 92]))


def place(first: int, last: int) -> tuple[int, bytes]:
    return FIRST, struct.pack("<QQ", first, last)


@pytest.mark.parametrize(
    ("fields", "kind", "whole"),
    [
        ([place(4096, 6143)], SWAP, True),
        ([place(1536, 3583)], SWAP, True),
        ([place(4096, 6143)], None, False),  # no other partition is moved
        ([place(4096, 6142)], SWAP, False),
        ([place(4096, 4095 + 2048), (8 * 16, b"x")], SWAP, False),
        ([place(4096, 6143), (KIND + 48, b"\1")], SWAP, False),  # its attributes
        ([place(4096, 6143), (40, b"\xfe")], SWAP, False),  # another one's end as well
        ([place(2048, 6143)], None, True),  # an end alone, as ever
    ],
)
def test_copies_that_differ_in_the_place_of_a_swap_partition_are_of_an_interrupted_move(
    new_device: NewDevice, fields: list[tuple[int, bytes]], kind: bytes | None, *, whole: bool
) -> None:
    image = gpt_image()
    last = SIZE // SECTOR - 1
    for entries, lba in ((2, 1), (last - 32, last)):
        changed(image, entries, lba, *([(KIND, kind)] if kind else []))
    changed(image, last - 32, last, *fields)
    table = read_table(new_device(image))
    assert (table.damage is None) == whole


def test_a_second_copy_with_swap_in_another_place_is_the_tables_own(new_device: NewDevice) -> None:
    image = gpt_image()
    last = SIZE // SECTOR - 1
    for entries, lba in ((2, 1), (last - 32, last)):
        changed(image, entries, lba, (KIND, SWAP))
    old = image[(last - 32) * SECTOR : last * SECTOR]  # without its header
    image = image.ljust(2 * SIZE, b"\0")
    for moved, own in ((old, True), (old[: KIND + 56] + b"x" + old[KIND + 57 :], False)):
        image[SIZE : SIZE + len(old)] = moved
        changed(image, 2, 1, place(4096, 6143))
        device = new_device(image)
        table = read_table(device)
        assert (table.own(device, SIZE, SIZE + len(old)) == SIZE + len(old)) == own


def disk(tables: dict[int, list[Row]]) -> bytearray:
    image = bytearray(SECTORS * SECTOR)
    for lba, rows in tables.items():
        image[lba * SECTOR : (lba + 1) * SECTOR] = _table(rows)
    return image


ALONE: dict[int, list[Row]] = {
    0: [(0x83, 10, 90), (5, 998, 502)],
    998: [(0x82, 2, 500)],
}


@pytest.mark.parametrize(
    ("tables", "number", "start", "expected"),
    [
        ({0: [(0x83, 10, 90), (0x82, 1000, 500)]}, 2, 2000, {2: (2000, 500)}),
        (ALONE, 5, 2000, {2: (1998, 502), 5: (2000, 500)}),
        (ALONE, 5, 500, {2: (498, 502), 5: (500, 500)}),
        (CHAIN, 6, 7000, {3: (1000, 6500), 6: (7000, 500)}),
        (CHAIN, 6, 1400, {3: (1000, 3000), 6: (1400, 500)}),
    ],
)
def test_at_each_write_the_record_is_old_or_new_and_the_table_whole(
    new_device: NewDevice,
    tables: dict[int, list[Row]],
    number: int,
    start: int,
    expected: dict[int, tuple[int, int]],
) -> None:
    image = disk(tables)
    device = new_device(image)
    before = {p.number: (p.start, p.size) for p in read_table(device).partitions}
    new = relocated(read_table(device), number, start * SECTOR)
    places = set()
    for write in new.writes:
        assert len(write.data) == SECTOR
        apply(device, (write,))
        table = read_table(device)
        assert table.damage is None
        places.add(next(p.start for p in table.partitions if p.number == number) // SECTOR)
    assert places <= {before[number][0] // SECTOR, start}
    found = {p.number: (p.start, p.size) for p in read_table(device).partitions}
    wanted = before | {n: (a * SECTOR, b * SECTOR) for n, (a, b) in expected.items()}
    assert found == wanted
    assert {p.number: (p.start, p.size) for p in new.table.partitions} == wanted
    assert set(new.table.among) == set(read_table(device).among)


def test_what_moves_never_comes_to_lie_upon_another(new_device: NewDevice) -> None:
    for tables, number, start in ((ALONE, 5, 100), (CHAIN, 6, 1290), (CHAIN, 6, 1100)):
        with pytest.raises(Unsafe, match="overlap"):
            require_free(relocated(read_table(new_device(disk(tables))), number, start * 512).table)


@pytest.mark.parametrize(
    ("tables", "number", "behind"),
    [
        (CHAIN, 6, 200),  # logical ones that lie in between, and an empty record
        ({0: [(0x83, 10, 90), (0x82, 1000, 500), (5, 2000, 500)]}, 2, 100),
        ({**ALONE, 998: [(0x82, 2, 500), (5, 400, 2)], 1398: []}, 5, 100),
        ({**ALONE, 998: [(0x82, 2, 500)]}, 5, 999),  # its own record is not behind
    ],
)
def test_a_chain_that_is_not_usual_is_not_moved(
    new_device: NewDevice, tables: dict[int, list[Row]], number: int, behind: int
) -> None:
    with pytest.raises(Unsupported, match="not usual"):
        require_movable(read_table(new_device(disk(tables))), number, behind * SECTOR)


def test_what_lies_behind_2_tib_an_mbr_does_not_name(new_device: NewDevice) -> None:
    with pytest.raises(Unsupported, match="2 TiB"):
        relocated(read_table(new_device(disk(ALONE))), 5, 2 << 40)


def test_a_hybrid_mbr_that_names_a_partition_keeps_it_from_moving(new_device: NewDevice) -> None:
    image = gpt_image()
    image[462:478] = struct.pack("<B3sB3sII", 0, b"", 0x82, b"", 2048, 2048)
    with pytest.raises(Unsupported, match="hybrid"):
        relocated(read_table(new_device(image)), 2, 2 * MIB + MIB // 2)
