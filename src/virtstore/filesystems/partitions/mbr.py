"""MBR: four records in the first sector; one of them may be an extended partition, which holds
logical ones, each behind a sector of its own (EBR) that names it and the next EBR.

Each record changes with one sector, so that is old or new. Where a logical partition takes the
extended one and the EBR before along, those that hold it grow before it does, and shrink
after it: they are larger than they need to be when that is cut short, which harms nobody and is
put right by the next change. An extended partition shrinks only so far that the disk can
be cut; it is no larger for that and nothing in it moves.

Partitions are numbered as Linux does: records 1 to 4, logical ones from 5 on in the chain's
order, empty EBRs not counted. Whether a table is for sectors of 4096 bytes it does not say:
it is read as for 512, as by everybody who has the image as a file. With an extended
partition that shows, since there is no EBR where it should be.

Source: the kernel's block/partitions/msdos.c; sfdisk for what a change leaves as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from virtstore.errors import Corrupt, Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions import table
from virtstore.filesystems.partitions.mbr_records import (
    MOST_SECTORS,
    PROTECTIVE,
    SECTOR,
    Record,
    has_signature,
    records,
    with_sectors,
)
from virtstore.filesystems.partitions.table import Regions, Write, Writes, end_of, is_container
from virtstore.model import Partition

#: EBRs that are followed. Linux has at most 256 partitions on a disk.
_MOST_LOGICAL: Final = 256
_FIRST_LOGICAL: Final = 5


class Place(NamedTuple):
    """Where a record stands (sector and slot), and the sector that its start is relative to."""

    at: int
    slot: int
    base: int


class _Ebr(NamedTuple):
    """`lba`: its sector. `link`: the record that leads to it, in the EBR before it."""

    lba: int
    logical: Record | None
    link: Place | None


class _Chain(NamedTuple):
    """The EBRs of the extended partition, and why they are not all of them."""

    ebrs: tuple[_Ebr, ...] = ()
    trouble: str | None = None


class Mbr(msgspec.Struct, frozen=True):
    """An MBR on a disk of `disk` bytes. `sectors`: all that have records, by their number."""

    disk: int
    sectors: dict[int, bytes]
    places: dict[int, Place]
    ebrs: tuple[_Ebr, ...]
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...]
    damage: str | None
    measured: bool

    def room(self, number: int, disk_size: int) -> int:
        chosen = self._changeable(number)
        return table.aligned(self.limit(chosen, disk_size), end_of(chosen))

    def smallest_disk(self, number: int, size: int) -> int:
        chosen = self._changeable(number)
        others = [end_of(p) for p in self.partitions if p != chosen and not is_container(p)]
        return self._smallest([chosen.start + _whole(size), *others])

    @property
    def least(self) -> int:
        return self._smallest([end_of(p) for p in self.partitions if not is_container(p)])

    def _smallest(self, ends: list[int]) -> int:
        """What ends last: a partition, or a part of the table."""
        behind = [(ebr.lba + 1) * SECTOR for ebr in self.ebrs]
        extended = self.extended
        return max([SECTOR, *ends, *behind, extended.start + SECTOR if extended else 0])

    @property
    def among(self) -> Regions:
        return tuple((ebr.lba * SECTOR, (ebr.lba + 1) * SECTOR) for ebr in self.ebrs)

    def backup(self, disk_size: int) -> int:
        return disk_size

    def lost(self, disk: Device) -> int | None:
        return None

    def own(self, disk: Device, start: int, end: int) -> int:
        return start

    def left_behind(self, disk: Device, disk_size: int) -> Writes:
        return ()

    def resized(self, number: int, size: int, disk_size: int) -> Writes:
        chosen = self._changeable(number)
        table.require_size(size)
        end = chosen.start + _whole(size)
        if end > MOST_SECTORS * SECTOR:
            raise Unsupported("an MBR cannot name what lies behind 2 TiB; only a GPT can")
        table.require_room(chosen, end, self.limit(chosen, disk_size))
        table.require_disk(self.smallest_disk(number, size), disk_size)
        holding = self._holding(chosen, end, disk_size)
        own = (self.places[number], end)
        grows = end > end_of(chosen)
        return self._plan([*holding, own] if grows else [own, *reversed(holding)])

    def moved(self, disk_size: int) -> Writes:
        table.require_undamaged(self)
        table.require_disk(self.least, disk_size)
        extended = self.extended
        end = disk_size // SECTOR * SECTOR
        if extended is None or end_of(extended) <= end:
            return ()
        return self._plan([(self.places[extended.number], end)])

    @property
    def extended(self) -> Partition | None:
        return next((p for p in self.partitions if is_container(p)), None)

    def _changeable(self, number: int) -> Partition:
        chosen = table.find(self.partitions, number)
        table.require_undamaged(self)
        return chosen

    def limit(self, chosen: Partition, disk_size: int) -> int:
        """The byte where `chosen` has to end at the latest, which is where something else
        begins."""
        behind = [p.start for p in self.partitions if p.number < _FIRST_LOGICAL]
        start = chosen.start
        if chosen.number >= _FIRST_LOGICAL:
            inside = [ebr.lba * SECTOR for ebr in self.ebrs]
            inside += [p.start for p in self.partitions if p.number >= _FIRST_LOGICAL]
            if following := [each for each in inside if each > start]:
                return min(following)
        ends = (disk_size // SECTOR * SECTOR, MOST_SECTORS * SECTOR)
        return min([*ends, *(each for each in behind if each > start)])

    def _holding(self, chosen: Partition, end: int, disk_size: int) -> list[tuple[Place, int]]:
        """The records that change with it, the outermost first, and where each is to end."""
        extended = self.extended
        if extended is None:
            return []
        changes = []
        logical = chosen.number >= _FIRST_LOGICAL
        inside = min(end_of(extended), disk_size // SECTOR * SECTOR)
        wanted = max(inside, end) if logical else inside
        if wanted != end_of(extended):
            changes.append((self.places[extended.number], wanted))
        at = self.places[chosen.number].at
        changes += [(ebr.link, end) for ebr in self.ebrs if ebr.lba == at and ebr.link]
        return changes

    def _plan(self, changes: list[tuple[Place, int]]) -> Writes:
        sectors = dict(self.sectors)
        writes = []
        for place, end in changes:
            record = next(r for r in records(sectors[place.at]) if r.slot == place.slot)
            size = end // SECTOR - (place.base + record.start)
            sectors[place.at] = with_sectors(sectors[place.at], place.slot, size, end // SECTOR - 1)
            writes.append(Write(place.at * SECTOR, sectors[place.at]))
        return tuple(writes)


def _whole(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def read_mbr(device: Device) -> Mbr:
    """The MBR of a device that has one. Raises `Corrupt` where there is none."""
    first = device.read(0, SECTOR)
    if not has_signature(first):
        raise Corrupt("its first sector holds no partition table")
    primaries = records(first)
    sectors = {0: first}
    places = {r.slot + 1: Place(0, r.slot, 0) for r in primaries}
    partitions = [_partition(r.slot + 1, r, 0) for r in primaries]
    chain = _follow(device, next((r for r in primaries if r.extended), None), sectors)
    for number, ebr in enumerate((e for e in chain.ebrs if e.logical), _FIRST_LOGICAL):
        assert ebr.logical
        places[number] = Place(ebr.lba, ebr.logical.slot, ebr.lba)
        partitions.append(_partition(number, ebr.logical, ebr.lba))
    unknown = chain.trouble or _not_understood(primaries)
    damage = unknown or _misplaced(partitions, chain.ebrs, device.size)
    return Mbr(
        disk=device.size,
        sectors=sectors,
        places=places,
        ebrs=chain.ebrs,
        partitions=tuple(partitions),
        warnings=(damage,) if damage else (),
        damage=damage,
        measured=unknown is None,
    )


def _partition(number: int, record: Record, base: int) -> Partition:
    return Partition(
        number=number,
        start=(base + record.start) * SECTOR,
        size=record.sectors * SECTOR,
        type=f"{record.kind:x}",
    )


def _follow(device: Device, extended: Record | None, sectors: dict[int, bytes]) -> _Chain:
    """The chain of EBRs from the extended partition's first sector on; each goes to `sectors`."""
    found: list[_Ebr] = []
    lba = extended.start if extended else None
    link = None
    while extended and lba is not None:
        if trouble := _wrong_place(lba, extended, sectors):
            return _Chain(tuple(found), trouble)
        sector = device.read(lba * SECTOR, SECTOR)
        if not has_signature(sector):
            return _Chain(tuple(found), f"its logical partitions are damaged at sector {lba}")
        sectors[lba] = sector
        logical = [r for r in records(sector) if not r.extended]
        links = [r for r in records(sector) if r.extended]
        found.append(_Ebr(lba, logical[0] if logical else None, link))
        if len(logical) > 1 or len(links) > 1:
            return _Chain(tuple(found), f"sector {lba} names more than one logical partition")
        link = Place(lba, links[0].slot, extended.start) if links else None
        lba = extended.start + links[0].start if links else None
    return _Chain(tuple(found))


def _wrong_place(lba: int, extended: Record, sectors: dict[int, bytes]) -> str | None:
    """Why no EBR is looked for in sector `lba`, or None."""
    if lba in sectors:
        return "its logical partitions lead in a circle"
    if not extended.start <= lba < extended.start + extended.sectors:
        return "its logical partitions lead out of the extended one"
    if len(sectors) > _MOST_LOGICAL:
        return f"it has more than {_MOST_LOGICAL} logical partitions"
    return None


def _not_understood(primaries: tuple[Record, ...]) -> str | None:
    if any(r.kind == PROTECTIVE for r in primaries):
        return "its GPT is damaged; what is shown is the protective MBR in front of it"
    if sum(r.extended for r in primaries) > 1:
        return "it has more than one extended partition, and only the first is shown"
    return None


def _misplaced(partitions: list[Partition], ebrs: tuple[_Ebr, ...], disk: int) -> str | None:
    for each in partitions:
        if each.start == 0:
            return f"partition {each.number} begins where the table itself is"
        if end_of(each) > disk:
            return f"partition {each.number} ends behind the end of the disk, which was cut"
    top = [p for p in partitions if p.number < _FIRST_LOGICAL]
    inside = [p for p in partitions if p.number >= _FIRST_LOGICAL]
    extended = next((p for p in top if is_container(p)), None)
    for each in inside:
        if extended and not extended.start <= each.start <= end_of(each) <= end_of(extended):
            return f"partition {each.number} is not inside the extended partition"
    return table.overlap(_regions(top)) or table.overlap([*_regions(inside), *_places(ebrs)])


def _regions(partitions: list[Partition]) -> Iterator[tuple[int, int, str]]:
    for each in partitions:
        yield each.start, end_of(each), f"partition {each.number}"


def _places(ebrs: tuple[_Ebr, ...]) -> Iterator[tuple[int, int, str]]:
    for each in ebrs:
        yield each.lba * SECTOR, (each.lba + 1) * SECTOR, f"the table at sector {each.lba}"
