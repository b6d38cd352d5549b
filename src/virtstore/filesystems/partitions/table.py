"""What a partition table can do: the contract that GPT and MBR keep.

A table is a value, read once from a device. Changing it is a plan, the writes in their
order, that is made without touching the device; `partitions.apply` carries it out. After
each write, and after a part of one, the old or the new partitions can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from virtstore.errors import Corrupt, NotFound, UsageError
from virtstore.filesystems.base import Device
from virtstore.model import Partition
from virtstore.units import format_size

ALIGNMENT: Final = 1 << 20

#: The type, in a GPT, of a Linux swap partition.
LINUX_SWAP: Final = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"

#: MBR types of a partition that only holds others.
_EXTENDED: Final = frozenset({"5", "f", "85"})


class Write(NamedTuple):
    """`data` for byte `offset` of the device. It is flushed before the next write begins."""

    offset: int
    data: bytes


#: In the order in which they have to reach the disk.
Writes = tuple[Write, ...]

#: From which byte to which, each.
Regions = tuple[tuple[int, int], ...]


class Table(Protocol):
    """`warnings` are for a person; `measured` is false where there may be partitions that
    are not in `partitions`; `damage` says why the table must not be changed."""

    @property
    def partitions(self) -> tuple[Partition, ...]: ...

    @property
    def disk(self) -> int:
        """Bytes of the disk that it was read from."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def measured(self) -> bool: ...

    @property
    def damage(self) -> str | None: ...

    def room(self, number: int, disk_size: int) -> int:
        """The byte up to which partition `number` can reach on a disk of `disk_size` bytes:
        a multiple of 1 MiB unless that would be less than it has. Raises as `resized`."""
        ...

    def smallest_disk(self, number: int, size: int) -> int:
        """Bytes of the smallest disk for these partitions, with number `number` of `size`."""
        ...

    @property
    def least(self) -> int:
        """Bytes of the smallest disk for its partitions as they are."""
        ...

    @property
    def among(self) -> Regions:
        """Where the table has parts of itself between the partitions."""
        ...

    def backup(self, disk_size: int) -> int:
        """The byte behind which a disk of `disk_size` bytes holds nothing but the table's second
        copy."""
        ...

    def lost(self, disk: Device) -> int | None:
        """The byte where the first copy says that a second one lies, where only zeros are; None for
        a whole table."""
        ...

    def own(self, disk: Device, start: int, end: int) -> int:
        """The byte up to which, from byte `start` on and at most to `end`, there is nothing but
        zeros and second copies of this table, old ones included. Both bytes lie behind all
        partitions."""
        ...

    def left_behind(self, disk: Device, disk_size: int) -> Writes:
        """The writes that zero the second copy that `disk` has, once the one for `disk_size` is
        written."""
        ...

    def resized(self, number: int, size: int, disk_size: int) -> Writes:
        """The writes that make partition `number` one of `size` bytes (rounded up to whole sectors)
        on a disk of `disk_size`, and change nothing else. A disk that is to be larger has that size
        already; one that is to be smaller is cut afterwards. Raises `NotFound` for a partition that
        is not there, `UsageError` for a size that there is no room for, `Corrupt` for a damaged
        table, `Unsupported` for what its kind of table cannot say."""
        ...

    def moved(self, disk_size: int) -> Writes:
        """The writes that make it the table of a disk of `disk_size`, with its partitions as they
        are. For the order of changes, and for damaged tables, see `resized`."""
        ...


def is_container(partition: Partition) -> bool:
    """Whether it is an extended partition, which only holds others."""
    return partition.type.lower() in _EXTENDED


def rounded_up(byte: int, unit: int = ALIGNMENT) -> int:
    """The multiple of `unit` at or behind a byte."""
    return -(-byte // unit) * unit


def end_of(partition: Partition) -> int:
    return partition.start + partition.size


def find(partitions: Sequence[Partition], number: int) -> Partition:
    """The partition to be changed. Raises `NotFound`, and `UsageError` for a container."""
    chosen = next((p for p in partitions if p.number == number), None)
    if chosen is None:
        numbers = ", ".join(str(p.number) for p in partitions) or "none at all"
        raise NotFound(f"there is no partition {number}; there are: {numbers}")
    if is_container(chosen):
        raise UsageError(
            f"partition {number} is an extended one, which only holds others and changes with"
            " them; name one of those in it"
        )
    return chosen


def require_undamaged(table: Table) -> None:
    """Raises `Corrupt` for a table that must not be changed."""
    if table.damage:
        raise Corrupt(f"its partition table is not changed: {table.damage}")


def overlap(regions: Iterable[tuple[int, int, str]]) -> str | None:
    """What is wrong where two of the regions (start, end, name) share anything, or None."""
    ordered = sorted(regions)
    for (_, end, one), (start, _, other) in pairwise(ordered):
        if start < end:
            return f"{one} and {other} overlap"
    return None


def aligned(limit: int, end: int) -> int:
    """`limit` rounded down to 1 MiB, but not below `end`, where the partition ends now."""
    rounded = limit // ALIGNMENT * ALIGNMENT
    return rounded if rounded >= end or limit < end else limit


def require_room(partition: Partition, end: int, limit: int) -> None:
    """Raises `UsageError` where `partition` is to reach up to `end` and can only to `limit`."""
    if end <= limit:
        return
    most = limit - partition.start
    raise UsageError(
        f"partition {partition.number} can have {most} bytes ({format_size(max(most, 0))}) at"
        f" most: behind that comes the next one, or the end of the disk"
    )


def require_size(size: int) -> None:
    if size <= 0:
        raise UsageError("a partition of 0 bytes holds nothing; give at least one sector")


def require_disk(smallest: int, disk_size: int) -> None:
    """Raises `UsageError` where its partitions do not fit on a disk of `disk_size` bytes."""
    if smallest > disk_size:
        raise UsageError(
            f"its partitions need a disk of {smallest} bytes ({format_size(smallest)}), and it is"
            f" to have {disk_size} ({format_size(disk_size)})"
        )
