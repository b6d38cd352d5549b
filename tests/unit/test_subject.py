"""What a resize is about, and what it does with a partition table when things go wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Error, LeftRunning, Unsafe
from virtstore.filesystems.base import Capabilities, Device, Resized, Watch, unwatched
from virtstore.filesystems.choosing import choose
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.mbr import Mbr, read_mbr
from virtstore.filesystems.subject import Subject
from virtstore.model import Filesystem

MIB = 1 << 20
EXT4 = Filesystem(type="ext4", size=4 * MIB)


class Recorded:
    """A file system that notes what it is asked."""

    types = ("noted",)
    capabilities = Capabilities(grow=True, shrink=True, tools=())

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    def size(self, device: Device) -> int | None:
        return None

    def minimum(self, device: Device) -> int | None:
        return None

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        return Resized(device.size, changed=True)

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        self.asked.append(size)
        return Resized(MIB, changed=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Device]:
    """16 MiB; an MBR with one partition, from 1 MiB on, of 4 MiB."""
    record = bytes([0, 0, 2, 0, 0x83, 0, 4, 0]) + (2048).to_bytes(4, "little")
    sector = bytes(446) + (record + (8192).to_bytes(4, "little")).ljust(64, b"\0") + b"\x55\xaa"
    (tmp_path / "disk").write_bytes(sector.ljust(16 * MIB, b"\0"))
    with (tmp_path / "disk").open("r+b", buffering=0) as file:
        yield Device(file.fileno(), 16 * MIB)


def contents(disk: Device, filesystem: Filesystem | None = None) -> Contents:
    table = read_mbr(disk)
    [found] = table.partitions
    inside = type(found)(found.number, found.start, found.size, found.type, filesystem=EXT4)
    return Contents(filesystem, (inside,), table=table)


def size_of_partition(disk: Device) -> int:
    table: Mbr = read_mbr(disk)
    return table.partitions[0].size


def test_a_file_system_beside_a_table_is_never_taken_for_either(disk: Device) -> None:
    assert choose(contents(disk), None).present == 4 * MIB
    with pytest.raises(Unsafe, match="which one counts"):
        choose(contents(disk, EXT4), None)


def test_a_table_without_partitions_is_a_boot_sector_in_front_of_a_file_system(
    disk: Device,
) -> None:
    os.pwrite(disk.fd, bytes(64), 446)
    assert choose(Contents(EXT4, table=read_mbr(disk)), None).partition is None


def test_a_file_system_that_says_it_is_small_enough_is_still_asked() -> None:
    noted = Recorded()
    Subject("noted", noted, present=MIB).shrink(Device(-1, 8 * MIB), 2 * MIB, unwatched)
    assert noted.asked == [2 * MIB]


def test_what_ends_behind_its_image_is_not_grown_over_what_is_lost() -> None:
    subject = Subject("noted", Recorded(), present=9 * MIB)
    with pytest.raises(Corrupt, match="the image was cut"):
        subject.require_whole(8 * MIB)


def fail_in(disk: Device, error: Error, written: bytes = b"") -> None:
    """Growing goes wrong, after so much of the file system was written."""
    with choose(contents(disk), None).grown(disk, 15 * MIB):
        assert size_of_partition(disk) == 15 * MIB
        os.pwrite(disk.fd, written, MIB + 1024)
        raise error


def test_a_refusal_puts_the_table_back(disk: Device) -> None:
    before = disk.read(0, disk.size)
    with pytest.raises(Error, match="refused"):
        fail_in(disk, Error("refused"))
    assert disk.read(0, disk.size) == before


@pytest.mark.parametrize("error", [Error("half-way"), LeftRunning("still at it")])
def test_a_file_system_that_may_have_outgrown_it_does_not_get_the_old_partition_back(
    disk: Device, error: Error
) -> None:
    written = b"" if isinstance(error, LeftRunning) else b"superblock"
    with pytest.raises(type(error)):
        fail_in(disk, error, written)
    assert size_of_partition(disk) == 15 * MIB
