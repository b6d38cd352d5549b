"""A plan's sizes never cut what holds data, and what a plan led to is what it is planned to be."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.test_filesystems_gpt import gpt_image
from tests.unit.test_subject import Recorded

from virtstore.errors import Error, Unsafe, UsageError
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.change import apply, read_table
from virtstore.filesystems.partitions.table import end_of, find
from virtstore.filesystems.resize_plan import ResizePlan, Sizes, cut, growth, shrinking
from virtstore.filesystems.subject import Subject

MIB = 1 << 20
SECTOR = 512


class Disk(NamedTuple):
    """What a subject is made of: partitions by first and last sector, the file system in the one of
    that number, and the least that it shrinks to."""

    kind: str
    size: int
    partitions: tuple[tuple[int, int], ...]
    number: int
    present: int
    minimum: int | None


def bare(size: int, present: int, minimum: int | None) -> Subject:
    return Subject("noted", Recorded(), present, minimum)


def image(disk: Disk) -> bytes:
    if disk.kind == "gpt":
        return bytes(gpt_image(disk.partitions, size=disk.size))
    records = b"".join(
        struct.pack("<4xB3xII", 0x83, first, last + 1 - first) for first, last in disk.partitions
    )
    return (bytes(446) + records.ljust(64, b"\0") + b"\x55\xaa").ljust(disk.size, b"\0")


@contextmanager
def opened(disk: Disk) -> Iterator[Device]:
    fd = os.memfd_create("disk")
    try:
        os.pwrite(fd, image(disk), 0)
        yield Device(fd, disk.size)
    finally:
        os.close(fd)


def subject(disk: Disk, device: Device) -> Subject:
    if disk.kind == "bare":
        return Subject("noted", Recorded(), disk.present, disk.minimum)
    table = read_table(device)
    chosen = find(table.partitions, disk.number)
    return Subject(
        *("noted", Recorded(), disk.present, disk.minimum, chosen, table), others=table.partitions
    )


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    kind = draw(st.sampled_from(["bare", "mbr", "gpt"]))
    sectors = draw(st.integers(3 * 2048, 6 * 2048))
    room = size = sectors * SECTOR
    partitions: tuple[tuple[int, int], ...] = ()
    number = 0
    if kind != "bare":
        edges = st.integers(64, sectors - 64)
        count = draw(st.integers(1, 3))
        cuts = sorted(draw(st.sets(edges, min_size=2 * count, max_size=2 * count)))
        partitions = tuple(zip(cuts[::2], cuts[1::2], strict=True))
        number = draw(st.integers(1, count))
        room = (partitions[number - 1][1] + 1 - partitions[number - 1][0]) * SECTOR
    present = draw(st.integers(1, room // SECTOR)) * SECTOR
    minimum = draw(st.none() | st.integers(1, present // SECTOR).map(lambda n: n * SECTOR))
    return Disk(kind, size, partitions, number, present, minimum)


def check_place(planned: ResizePlan, after: Sizes) -> None:
    """What is planned has a place on the disk, clear of everything else there."""
    about = planned.subject
    room = after.disk if after.partition is None else after.partition
    assert (after.filesystem or 0) <= room
    if after.partition is None or about.table is None:
        return
    start, end = about.start, about.start + after.partition
    table = about.table
    for other in about.others:
        if other.number != about.number:
            assert end_of(other) <= start or end <= other.start
            assert end_of(other) <= table.backup(after.disk)
    assert end <= table.backup(after.disk)


def carried_out(disk: Disk, device: Device, planned: ResizePlan, after: Sizes) -> Disk:
    """The disk, with its table changed as it was planned."""
    about = planned.subject
    os.ftruncate(device.fd, max(after.disk, disk.size))
    if about.table and about.number and after.partition:
        apply(device, about.table.resized(about.number, after.partition, after.disk))
    os.ftruncate(device.fd, after.disk)
    return disk._replace(size=after.disk, present=after.filesystem or 0)


def or_refused(make: Callable[[], ResizePlan]) -> ResizePlan:
    try:
        return make()
    except Error:
        reject()


@settings(max_examples=150, deadline=None)
@given(disks(), st.data())
def test_a_growth_makes_nothing_smaller_and_stays_clear_of_everything(
    disk: Disk, data: st.DataObject
) -> None:
    target = data.draw(st.integers(disk.size // SECTOR, 8 * 2048)) * SECTOR
    with opened(disk) as device:
        about = subject(disk, device)
        room = about.room(target)
        size = data.draw(st.none() | st.integers(disk.present, max(room, disk.present)))
        planned = or_refused(lambda: growth(about, disk.size, target, size))
        after, before = planned.after, planned.before
        assert after
        assert after.disk == target
        assert (after.partition or 0) >= (before.partition or 0)
        assert (after.filesystem or 0) >= disk.present
        assert after.filesystem == (room if size is None else size)
        check_place(planned, after)
        grown = carried_out(disk, device, planned, after)
        again = growth(subject(grown, Device(device.fd, after.disk)), target, target, size)
        assert again.steps("x") == []


@settings(max_examples=150, deadline=None)
@given(disks(), st.data())
def test_a_shrink_keeps_what_the_file_system_needs_and_all_other_partitions(
    disk: Disk, data: st.DataObject
) -> None:
    to = data.draw(st.none() | st.integers(1, disk.size // SECTOR).map(lambda n: n * SECTOR))
    unit = data.draw(st.sampled_from([1, MIB])) if to is None else 1
    with opened(disk) as device:
        about = subject(disk, device)

        def make() -> ResizePlan:
            room = None if to is None else about.room(to)
            return shrinking(about, disk.size, to, room, unit)

        planned = or_refused(make)
        least = planned.after.filesystem if planned.after else None
        found = data.draw(st.integers(1, (least or disk.present) // SECTOR)) * SECTOR
        for after in (planned.after, planned.shrunk(found)):
            if after is None:
                assert to is None
                assert disk.minimum is None
                continue
            assert after.disk <= disk.size
            assert to is None or after.disk == to
            assert after.disk == disk.size or after.disk % unit == 0
            assert (after.partition or 0) <= (planned.before.partition or 0)
            assert (after.filesystem or 0) <= disk.present
            check_place(planned, after)
        if planned.after:
            assert (planned.after.filesystem or 0) >= (disk.minimum or 0)
            smaller = carried_out(disk, device, planned, planned.after)
            again = subject(smaller, Device(device.fd, smaller.size))
            room = None if to is None else again.room(to)
            assert shrinking(again, smaller.size, to, room, unit).steps("x") == []


@settings(max_examples=60, deadline=None)
@given(disks(), st.data())
def test_a_file_system_that_shrinks_alone_leaves_its_disk_as_large(
    disk: Disk, data: st.DataObject
) -> None:
    size = data.draw(st.none() | st.integers(1, disk.present))
    with opened(disk) as device:
        about = subject(disk, device)
        planned = or_refused(lambda: shrinking(about, disk.size, disk.size, size))
        after = planned.shrunk(min(disk.present, size or disk.minimum or disk.present))
        assert after.disk == disk.size
        check_place(planned, after)


def test_what_only_shrinking_tells_is_not_promised() -> None:
    about = bare(8 * MIB, 8 * MIB, None)
    planned = shrinking(about, 8 * MIB, None, None)
    assert planned.after is None
    first = "shrink the noted file system as far as it goes"
    assert planned.steps("/x") == [first, "cut /x behind it"]
    assert planned.shrunk(3 * MIB) == Sizes(3 * MIB, None, 3 * MIB)
    inside = shrinking(about, 8 * MIB, 8 * MIB, None)
    assert inside.steps("/x") == [first]
    assert inside.shrunk(3 * MIB) == Sizes(8 * MIB, None, 3 * MIB)


def test_a_disk_of_whole_extents_is_cut_behind_the_last_that_is_needed() -> None:
    planned = shrinking(bare(8 * MIB, 8 * MIB, 3 * MIB + 512), 8 * MIB, None, None, 2 * MIB)
    assert planned.after == Sizes(4 * MIB, None, 3 * MIB + 512)
    assert planned.steps("/x") == [
        "shrink the noted file system to 3146240 bytes (3 MiB) or less",
        "cut /x from 8 MiB to 4194304 bytes (4 MiB) or less",
    ]


def test_a_size_that_was_asked_for_is_not_told_as_one_or_less() -> None:
    about = bare(8 * MIB, 8 * MIB, MIB)
    assert shrinking(about, 8 * MIB, 4 * MIB, 4 * MIB).steps("/x") == [
        "shrink the noted file system to 4194304 bytes (4 MiB)",
        "cut /x from 8 MiB to 4194304 bytes (4 MiB)",
    ]


def test_a_growth_goes_outside_in_and_a_shrink_inside_out() -> None:
    disk = Disk("mbr", 8 * MIB, ((2048, 8191),), 1, 2 * MIB, MIB)
    with opened(disk) as device:
        about = subject(disk, device)
        grown = replace(growth(about, 8 * MIB, 16 * MIB, None), move="move swap")
        shrunk = replace(shrinking(about, 8 * MIB, None, None), move="move swap")
    assert [step.split(" to ")[0] for step in grown.steps("/x")] == [
        "grow /x from 8 MiB",
        "move swap",
        "grow partition 1",
        "grow the noted file system",
    ]
    assert [step.split(" to ")[0] for step in shrunk.steps("/x")] == [
        "shrink the noted file system",
        "shrink partition 1",
        "move swap",
        "cut /x from 8 MiB",
    ]


def test_what_cannot_succeed_is_no_plan() -> None:
    about = bare(8 * MIB, 4 * MIB, 3 * MIB)
    with pytest.raises(UsageError, match="can have 8388608 bytes"):
        growth(about, 8 * MIB, 8 * MIB, 9 * MIB)
    with pytest.raises(UsageError, match="shrinkfs"):
        growth(about, 8 * MIB, 8 * MIB, 3 * MIB)
    with pytest.raises(Unsafe, match="needs at least 3145728"):
        shrinking(about, 8 * MIB, 2 * MIB, 2 * MIB)


def test_where_nothing_inside_changes_only_the_disk_is_cut() -> None:
    unknown = Subject("unknown", None, None)
    planned = cut(unknown, 8 * MIB, 5 * MIB)
    assert planned.after == Sizes(5 * MIB, None, None)
    assert planned.steps("/x") == ["cut /x from 8 MiB to 5242880 bytes (5 MiB)"]
    assert cut(bare(8 * MIB, MIB, None), 8 * MIB, 8 * MIB).steps("/x") == []
