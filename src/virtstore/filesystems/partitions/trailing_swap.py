"""The swap partition between the one that is resized and the disk's end, which can be moved.

What was swapped out is of no use to anybody once the guest is off, so nothing but the first page
moves: it is copied, and makes of the new place the same swap area, UUID and label included. Until
the table has switched to the new place, the old one is whole; so a page, and a logical partition's
sector in front of it, are in both places for a while. What an interrupted move left of those is
known by being the same as what is there (`stray`).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from virtstore.errors import Error, Unsafe, Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.claims import claimed_end, outgrown
from virtstore.filesystems.partitions import relocation
from virtstore.filesystems.partitions.mbr_records import SECTOR
from virtstore.filesystems.partitions.relocation import Relocation
from virtstore.filesystems.partitions.roles import behind, described, in_the_way, is_swap
from virtstore.filesystems.partitions.table import ALIGNMENT, Regions, Table, end_of, rounded_up
from virtstore.filesystems.subject import Subject
from virtstore.filesystems.swap import header_to_move
from virtstore.model import Partition

_NO_SWAP: Final = (
    "what is in it is not known for swap. It may be encrypted with a key that is another at each"
    " start, or not be formatted: then delete it in the guest, resize, and make a new one"
)


class TrailingSwap(msgspec.Struct, frozen=True):
    """`partition`, of `table`, is all that lies behind the partition `front`; it begins with
    `header`."""

    partition: Partition
    front: Partition
    table: Table
    header: bytes

    @property
    def lead(self) -> int:
        """Bytes between the sector that moves along, if there is one, and the swap partition."""
        return relocation.lead(self.table, self.partition.number)

    @property
    def edge(self) -> int:
        """The byte up to which there is room for what lies before it."""
        return self.partition.start - self.lead

    def start_on(self, disk_size: int) -> int:
        """The byte where it begins if it lies at the end of a disk of that size."""
        return (self._limit(disk_size) - self.partition.size) // ALIGNMENT * ALIGNMENT

    def further(self, disk_size: int) -> int:
        """As `start_on`, for a disk that is no smaller. It stays where it is if it cannot move by
        so little, because what is written in the new place would lie upon the old one."""
        start = self.start_on(disk_size)
        return start if start >= self._nearest(1) else self.partition.start

    def nearer(self, disk_size: int) -> int:
        """As `start_on`, for a disk that is to be smaller. It stays where it is if it fits
        there."""
        if end_of(self.partition) <= self._limit(disk_size):
            return self.partition.start
        return min(self.start_on(disk_size), self._nearest(-1))

    def smallest_growth(self) -> int:
        """Bytes of the smallest disk on which it can move further back."""
        return self._disk(self._nearest(1))

    def smallest_disk(self, end: int) -> int:
        """Bytes of the smallest disk for it, with what lies before it ending at byte `end`."""
        start = rounded_up(end + self.lead)
        return self._disk(start if start <= self._nearest(-1) else self.partition.start)

    def _limit(self, disk_size: int) -> int:
        return relocation.limit(self.table, self.partition.number, disk_size)

    def _disk(self, start: int) -> int:
        return start + self.partition.size + relocation.tail(self.table)

    def _nearest(self, way: int) -> int:
        """The nearest other start, further back (1) or in front (-1): what is written for a move to
        there does not overlap what is there for its present start."""
        clear = self.lead + len(self.header)
        if way > 0:
            return rounded_up(self.partition.start + clear)
        return (self.partition.start - clear) // ALIGNMENT * ALIGNMENT

    def moved(self, start: int) -> Relocation:
        return relocation.relocated(self.table, self.partition.number, start)

    def out_of_the_way(self, subject: Subject, start: int) -> Subject:
        """The subject of the resize, once the swap partition has been moved to byte `start`."""
        kept = tuple(p for p in subject.others if p.start < end_of(self.front))
        return structs.replace(subject, table=self.moved(start).table, others=kept)

    @property
    def footprint(self) -> Regions:
        """The bytes (from, to) that are in two places while it moves."""
        start = self.partition.start
        head = ((start, start + len(self.header)),)
        return (*head, (self.edge, self.edge + SECTOR)) if self.lead else head

    def stray(self, disk: Device, offset: int) -> tuple[int, int] | None:
        """From which byte to which a copy of what moves lies on `disk`, or the sectors of one
        that were written, whose first byte that is not zero is byte `offset`; None where there
        is none."""
        for at, sector in enumerate(_sectors(self.header)):
            start = offset - at * SECTOR - (len(sector) - len(sector.lstrip(b"\0")))
            if any(sector) and start >= 0 and self._is_header(disk.read(start, len(self.header))):
                return start, start + len(self.header)
        start = offset // SECTOR * SECTOR
        if relocation.is_its_own(self.table, self.partition.number, disk.read(start, SECTOR)):
            return start, start + SECTOR
        return None

    def _is_header(self, page: bytes) -> bool:
        found, own = _sectors(page), _sectors(self.header)
        return len(found) == len(own) and all(
            one == other or not any(one) for one, other in zip(found, own, strict=True)
        )


def _sectors(data: bytes) -> list[bytes]:
    return [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]


def trailing_swap(disk: Device, subject: Subject) -> TrailingSwap | None:
    """The swap partition between a subject and the disk's end; None where nothing is. Raises
    `Unsupported` for anything else that is there, and where it cannot be moved; `Unsafe` where a
    file system claims its place."""
    front, table = subject.partition, subject.table
    if front is None or table is None or not (found := behind(front, subject.others)):
        return None
    chosen = found[-1]
    if len(found) > 1 or not is_swap(chosen):
        raise Unsupported(
            f"{in_the_way(front, subject.others)}; --move-swap moves one partition of swap's type,"
            " and nothing else"
        )
    try:
        header = _header(disk, chosen)
        relocation.require_movable(table, chosen.number, end_of(front))
    except Error as error:
        raise type(error)(f"{described(chosen)} is not moved: {error.message}") from None
    swap = TrailingSwap(chosen, front, table, header)
    if claimed_end(front) > swap.edge:
        raise Unsafe(outgrown(front, subject.others))
    return swap


def _header(disk: Device, chosen: Partition) -> bytes:
    inside = chosen.filesystem.type if chosen.filesystem else None
    if inside not in ("swap", "swsuspend"):
        raise Unsupported(_NO_SWAP)
    return header_to_move(disk.part(chosen.start, chosen.size))
