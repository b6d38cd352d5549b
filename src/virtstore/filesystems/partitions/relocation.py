"""A partition gets another place on its disk; its number, its size and all else that its table says
of it stay.

Nothing in the partition moves: its caller has made sure that it can be read in both places, and
one sector switches from the old one to the new. In a GPT that is a sector of each copy; in an MBR
the record. What leads to a logical partition is a sector in front of it (EBR), which moves along:
the new one is written first, and then the record that leads to it, which is in the EBR before it,
or, for the only logical partition, the record of the extended one, which so moves along too.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from msgspec import structs

from virtstore.errors import Unsafe, Unsupported
from virtstore.filesystems.partitions.gpt import Gpt
from virtstore.filesystems.partitions.gpt_copies import FIRST_LBA
from virtstore.filesystems.partitions.mbr import Mbr, Place
from virtstore.filesystems.partitions.mbr_records import (
    MOST_SECTORS,
    SECTOR,
    with_place,
    without_chs,
)
from virtstore.filesystems.partitions.table import (
    Table,
    Write,
    Writes,
    end_of,
    find,
    is_container,
    overlap,
    require_undamaged,
)
from virtstore.model import Partition


class Relocation(NamedTuple):
    """The table as it is to be, and what makes it so, on the disk that the old one is on."""

    table: Table
    writes: Writes


def relocated(table: Table, number: int, start: int) -> Relocation:
    """Partition `number` is to begin at byte `start`, a multiple of a sector. Raises
    `Unsupported` for what its table cannot say, and `Corrupt` for a damaged one. Whether the
    place is free is not looked at: `require_free` does."""
    require_undamaged(table)
    chosen = find(table.partitions, number)
    if isinstance(table, Gpt):
        return _in_gpt(table, chosen, start)
    assert isinstance(table, Mbr)
    if start + chosen.size > MOST_SECTORS * SECTOR:
        raise Unsupported("an MBR cannot name what lies behind 2 TiB; only a GPT can")
    return _logical(table, chosen, start) if lead(table, number) else _primary(table, chosen, start)


def require_free(table: Table) -> None:
    """Raises `Unsafe` where two of its partitions, or one and a part of the table, overlap."""
    regions = [
        (p.start, end_of(p), f"partition {p.number}")
        for p in table.partitions
        if not is_container(p)
    ]
    regions += [(start, end, f"the table at byte {start}") for start, end in table.among]
    if wrong := overlap(regions):
        raise Unsafe(f"nothing is moved: then {wrong}")


def lead(table: Table, number: int) -> int:
    """Bytes between the table's own sector for partition `number`, which moves along, and the
    partition; 0 where there is no such sector."""
    if isinstance(table, Mbr) and (at := table.places[number].at):
        return find(table.partitions, number).start - at * SECTOR
    return 0


def limit(table: Table, number: int, disk_size: int) -> int:
    """The byte where partition `number` has to end at the latest, on a disk of that size."""
    assert isinstance(table, Gpt | Mbr)
    return table.limit(find(table.partitions, number), disk_size)


def tail(table: Table) -> int:
    """Bytes that the table needs behind the last partition, at the disk's end."""
    whole = table.disk // 4096 * 4096
    return whole - table.backup(whole)


def is_its_own(table: Table, number: int, sector: bytes) -> bool:
    """Whether `sector` is the table's own for a logical partition `number`, but for where it
    lies."""
    if not isinstance(table, Mbr) or not table.places[number].at:
        return False
    return without_chs(sector) == without_chs(table.sectors[table.places[number].at])


def require_movable(table: Table, number: int, behind: int) -> None:
    """Raises `Unsupported` where, behind byte `behind`, there is more of an MBR than what moves
    with partition `number`, the last one on its disk, or where others depend on that."""
    if not isinstance(table, Mbr):
        return
    at = table.places[number].at
    holding = [p for p in table.partitions if is_container(p) and p.start >= behind]
    others = [e.lba for e in table.ebrs if e.lba != at and e.lba * SECTOR >= behind]
    leads_on = any(e.link and e.link.at == at for e in table.ebrs)
    if others or leads_on or (holding and not at) or (at and at * SECTOR < behind):
        raise Unsupported(
            f"partition {number} cannot be moved: the extended partition, or a part of the chain"
            " of logical ones, lies in a place that is not usual"
        )


def _in_gpt(gpt: Gpt, chosen: Partition, start: int) -> Relocation:
    moved = structs.replace(chosen, start=start)
    for each in (chosen, moved):
        gpt.refuse_hybrid(each, end_of(each), gpt.disk)
    array = bytearray(gpt.array)
    at = (chosen.number - 1) * gpt.header.entry_size + FIRST_LBA
    struct.pack_into("<QQ", array, at, start // gpt.sector, end_of(moved) // gpt.sector - 1)
    new = structs.replace(gpt, array=bytes(array), partitions=_with(gpt, moved))
    return Relocation(new, gpt.plan(new.array, gpt.disk))


def _primary(mbr: Mbr, chosen: Partition, start: int) -> Relocation:
    moved = structs.replace(chosen, start=start)
    sector = _placed(mbr.sectors[0], mbr.places[chosen.number], start, chosen.size)
    new = structs.replace(mbr, sectors=mbr.sectors | {0: sector}, partitions=_with(mbr, moved))
    return Relocation(new, (Write(0, sector),))


def _logical(mbr: Mbr, chosen: Partition, start: int) -> Relocation:
    moved = structs.replace(chosen, start=start)
    place = mbr.places[chosen.number]
    ebr = next(e for e in mbr.ebrs if e.lba == place.at)
    extended = mbr.extended
    assert extended
    at = place.at + (start - chosen.start) // SECTOR
    own = place._replace(at=at, base=at)
    sectors = {lba: sector for lba, sector in mbr.sectors.items() if lba != place.at}
    sectors[at] = _placed(mbr.sectors[place.at], own, start, chosen.size)
    writes = [Write(at * SECTOR, sectors[at])]
    if ebr.link is None:  # the first one is where the extended partition begins
        above = mbr.places[extended.number]
        holding = structs.replace(extended, start=at * SECTOR, size=end_of(moved) - at * SECTOR)
    else:
        above = ebr.link
        holding = extended
        if end_of(moved) > end_of(extended):  # it grows first, and shrinks when the disk is cut
            holding = structs.replace(extended, size=end_of(moved) - extended.start)
            slot = mbr.places[extended.number]
            sectors[0] = _placed(sectors[0], slot, holding.start, holding.size)
            writes.insert(0, Write(0, sectors[0]))
    sectors[above.at] = _placed(sectors[above.at], above, at * SECTOR, end_of(moved) - at * SECTOR)
    writes.append(Write(above.at * SECTOR, sectors[above.at]))
    new = structs.replace(
        mbr,
        sectors=sectors,
        places=mbr.places | {chosen.number: own},
        ebrs=tuple(e._replace(lba=at) if e is ebr else e for e in mbr.ebrs),
        partitions=_with(mbr, moved, holding),
    )
    return Relocation(new, tuple(writes))


def _placed(sector: bytes, place: Place, start: int, size: int) -> bytes:
    """The sector whose record at `place` says that something of `size` bytes begins at byte
    `start` of the disk."""
    first = start // SECTOR
    return with_place(sector, place.slot, first - place.base, size // SECTOR, first)


def _with(table: Table, *changed: Partition) -> tuple[Partition, ...]:
    new = {p.number: p for p in changed}
    return tuple(new.get(p.number, p) for p in table.partitions)
