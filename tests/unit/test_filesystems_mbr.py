"""An MBR's chain of logical partitions ends wherever it leads; what holds others follows them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtstore.errors import Corrupt, NotFound, Unsupported, UsageError
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.change import apply
from virtstore.filesystems.partitions.mbr import Mbr, read_mbr

SECTOR = 512
SECTORS = 8192
Row = tuple[int, int, int]  # type, start, sectors
NewDevice = Callable[[dict[int, list[Row]]], Device]


def _table(rows: list[Row]) -> bytes:
    packed = (struct.pack("<B3sB3sII", 0, b"", kind, b"", start, n) for kind, start, n in rows)
    return bytes(446) + b"".join(packed).ljust(64, b"\0") + b"\x55\xaa"


@pytest.fixture
def new_device(tmp_path: Path) -> Iterator[NewDevice]:
    """A disk with these records in these sectors."""
    with (tmp_path / "image").open("w+b", buffering=0) as file:

        def make(tables: dict[int, list[Row]]) -> Device:
            file.truncate(0)
            file.truncate(SECTORS * SECTOR)
            for lba, rows in tables.items():
                os.pwrite(file.fileno(), _table(rows), lba * SECTOR)
            return Device(file.fileno(), SECTORS * SECTOR)

        yield make


#: A primary partition, an extended one with an empty EBR and two logical ones behind it.
CHAIN: dict[int, list[Row]] = {
    0: [(0x83, 10, 90), (0, 0, 0), (0x0F, 1000, 3000)],
    1000: [(0, 0, 0), (5, 100, 200)],
    1100: [(0x83, 8, 192), (5, 500, 516)],
    1500: [(0x82, 16, 500)],
}


def _found(mbr: Mbr) -> list[tuple[int, int, int, str]]:
    return [(p.number, p.start // SECTOR, p.size // SECTOR, p.type) for p in mbr.partitions]


def test_logical_partitions_are_numbered_from_five_without_the_empty_ones(
    new_device: NewDevice,
) -> None:
    table = read_mbr(new_device(CHAIN))
    assert _found(table) == [
        (1, 10, 90, "83"),
        (3, 1000, 3000, "f"),
        (5, 1108, 192, "83"),
        (6, 1516, 500, "82"),
    ]
    assert (table.warnings, table.measured) == ((), True)


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ({1500: [(0x82, 16, 500), (5, 100, 9)]}, "in a circle"),
        ({1500: [(0x82, 16, 500), (5, 5000, 9)]}, "lead out of"),
        ({1100: [(0x83, 8, 192), (5, 600, 516)]}, "damaged at sector 1600"),
        ({1100: [(0x83, 8, 192), (5, 500, 516), (0x83, 9, 9)]}, "more than one logical"),
        ({0: [*CHAIN[0], (5, 5000, 9)]}, "more than one extended"),
        ({0: [*CHAIN[0], (0xEE, 5000, 9)]}, "its GPT is damaged"),
    ],
)
def test_a_chain_that_cannot_be_followed_is_neither_measured_nor_changed(
    new_device: NewDevice, damaged: dict[int, list[Row]], says: str
) -> None:
    table = read_mbr(new_device(CHAIN | damaged))
    assert not table.measured
    assert says in table.warnings[0]
    with pytest.raises(Corrupt, match=says):
        table.resized(1, SECTOR, SECTORS * SECTOR)


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ({0: [(0x83, 10, 991), *CHAIN[0][1:]]}, "overlap"),
        ({0: [*CHAIN[0], (0x83, 8000, 193)]}, "behind the end"),
        ({0: [(0x83, 0, 9), *CHAIN[0][1:]]}, "begins where the table"),
        ({1500: [(0x82, 16, 2500)]}, "not inside"),
        ({1100: [(0x83, 8, 393), (5, 500, 516)]}, "overlap"),
    ],
)
def test_partitions_that_cannot_be_are_not_changed(
    new_device: NewDevice, damaged: dict[int, list[Row]], says: str
) -> None:
    with pytest.raises(Corrupt, match=says):
        read_mbr(new_device(CHAIN | damaged)).resized(1, SECTOR, SECTORS * SECTOR)


def test_no_more_logical_partitions_are_followed_than_linux_knows(new_device: NewDevice) -> None:
    tables: dict[int, list[Row]] = {0: [(5, 1000, 7000)]}
    tables |= {1000 + 4 * n: [(0x83, 1, 1), (5, 4 * n + 4, 2)] for n in range(1000)}
    table = read_mbr(new_device(tables))
    assert len(table.partitions) == 257
    assert "more than 256" in table.warnings[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sectors=st.lists(
        st.lists(
            st.tuples(st.sampled_from([0, 5, 0x83]), st.integers(0, 9), st.integers(0, 9)),
            max_size=4,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_records_are_answered_for(new_device: NewDevice, sectors: list[list[Row]]) -> None:
    table = read_mbr(new_device(dict(enumerate(sectors))))
    for each in table.partitions:
        assert each.size > 0
    if not table.damage and table.partitions:
        assert table.measured


def test_what_holds_a_logical_partition_grows_before_it_and_shrinks_after(
    new_device: NewDevice,
) -> None:
    device = new_device(CHAIN)
    grown = read_mbr(device).resized(6, 5000 * SECTOR, SECTORS * SECTOR)
    assert [write.offset // SECTOR for write in grown] == [0, 1100, 1500]
    apply(device, grown)
    assert _found(read_mbr(device))[1::2] == [(3, 1000, 5516, "f"), (6, 1516, 5000, "82")]
    # The link in the EBR before: from that EBR to the end of what it holds.
    assert struct.unpack_from("<II", device.read(1100 * SECTOR, SECTOR), 446 + 24) == (500, 5016)
    smallest = read_mbr(device).smallest_disk(6, 100 * SECTOR)
    assert smallest == 1616 * SECTOR
    shrunk = read_mbr(device).resized(6, 100 * SECTOR, smallest)
    assert [write.offset // SECTOR for write in shrunk] == [1500, 1100, 0]
    apply(device, shrunk)
    assert _found(read_mbr(device))[1::2] == [(3, 1000, 616, "f"), (6, 1516, 100, "82")]


def test_an_extended_partition_stays_where_the_disk_does(new_device: NewDevice) -> None:
    device = new_device(CHAIN)
    apply(device, read_mbr(device).resized(6, 100 * SECTOR, SECTORS * SECTOR))
    assert _found(read_mbr(device))[1] == (3, 1000, 3000, "f")


def test_a_partition_has_room_up_to_whatever_is_next(new_device: NewDevice) -> None:
    table = read_mbr(new_device(CHAIN))
    disk = SECTORS * SECTOR
    assert table.room(1, disk) == 1000 * SECTOR
    assert table.room(5, disk) == 1500 * SECTOR  # the EBR of the next
    assert table.room(6, disk) == disk
    with pytest.raises(UsageError, match="at most"):
        table.resized(5, 400 * SECTOR, disk)
    with pytest.raises(UsageError, match="extended"):
        table.resized(3, 400 * SECTOR, disk)
    with pytest.raises(NotFound, match="there are: 1, 3, 5, 6"):
        table.resized(2, 400 * SECTOR, disk)


def test_a_partition_ends_before_two_tebibytes(new_device: NewDevice) -> None:
    table = read_mbr(new_device({0: [(0x83, 2048, 4096)]}))
    disk = 3 << 40
    assert table.room(1, disk) == (2 << 40) - (1 << 20)
    with pytest.raises(Unsupported, match="2 TiB"):
        table.resized(1, 2 << 40, disk)


def test_no_boot_code_and_no_flag_is_lost(new_device: NewDevice) -> None:
    device = new_device(CHAIN)
    os.pwrite(device.fd, b"\xeb" * 446 + b"\x80", 0)
    before = device.read(0, SECTOR)
    apply(device, read_mbr(device).resized(1, 500 * SECTOR, SECTORS * SECTOR))
    after = device.read(0, SECTOR)
    assert [at for at in range(SECTOR) if before[at] != after[at]] == [451, 452, 458, 459]
