"""Which file system of a disk files are read from."""

from __future__ import annotations

import msgspec

from virtstore.errors import NotFound, Unsupported, UsageError
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.table import is_container
from virtstore.filesystems.reading.registry import READABLE, why_not
from virtstore.model import Partition
from virtstore.units import format_size


class Chosen(msgspec.Struct, frozen=True):
    """A file system of blkid's `type` in `size` bytes from `start`; `number`: its partition's."""

    type: str
    start: int
    size: int
    number: int | None = None
    notes: tuple[str, ...] = ()


def choose(contents: Contents, size: int, number: int | None) -> Chosen:
    """Partition `number`, or without one the largest file system that can be read. Raises
    `NotFound`, `UsageError`, `Unsupported`."""
    partitions = [each for each in contents.partitions if not is_container(each)]
    if not partitions:
        return _whole(contents, size, number)
    if number is not None:
        return _chosen(_numbered(partitions, number))
    readable = [each for each in partitions if each.filesystem and each.filesystem.type in READABLE]
    if not readable:
        raise Unsupported(_none(partitions))
    largest = max(readable, key=lambda each: each.size)
    return _chosen(largest, _others(partitions, largest))


def _whole(contents: Contents, size: int, number: int | None) -> Chosen:
    if number is not None:
        raise UsageError("it has no partitions; leave --partition out")
    if contents.filesystem is None:
        why = f" ({'; '.join(contents.warnings)})" if contents.warnings else ""
        raise Unsupported(f"no file system was recognised in it{why}, so there are no files")
    return Chosen(contents.filesystem.type, 0, size)


def _numbered(partitions: list[Partition], number: int) -> Partition:
    for each in partitions:
        if each.number == number:
            return each
    there = ", ".join(str(each.number) for each in partitions)
    raise NotFound(f"it has no partition {number}; it has {there}")


def _chosen(partition: Partition, notes: tuple[str, ...] = ()) -> Chosen:
    if partition.filesystem is None:
        raise Unsupported(f"no file system was recognised in partition {partition.number}")
    kind = partition.filesystem.type
    return Chosen(kind, partition.start, partition.size, partition.number, notes)


def _others(partitions: list[Partition], chosen: Partition) -> tuple[str, ...]:
    """The note that there are more to choose from, if there are."""
    others = [
        _described(each)
        for each in partitions
        if each is not chosen and each.filesystem and each.filesystem.type in READABLE
    ]
    if not others:
        return ()
    return (f"this is partition {chosen.number}; --partition shows {' or '.join(others)}",)


def _none(partitions: list[Partition]) -> str:
    known = [each for each in partitions if each.filesystem]
    if not known:
        return "no file system was recognised in any of its partitions, so there are no files"
    largest = max(known, key=lambda each: each.size)
    assert largest.filesystem
    told = ", ".join(map(_described, known))
    return f"there is {told}; of the largest: {why_not(largest.filesystem.type)}"


def _described(partition: Partition) -> str:
    kind = partition.filesystem.type if partition.filesystem else "nothing known"
    return f"{partition.number} ({kind}, {format_size(partition.size)})"
