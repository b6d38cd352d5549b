"""GPT: a header and an array of entries at the disk's start, and both again at its end.

The backup is written first, and the primary once that has been flushed: whatever is cut
short, one copy is whole, and it is the old table or the new. While the primary is being
written it may be neither. blkid, sfdisk, firmware and this reader take the backup then, and
Linux itself only with `gpt` on its command line: until the same command has been run again,
a guest might not find its partitions. A backup is found only in the last sector, so a disk
that is going to be cut first gets the whole table for its present size; then its primary is
told, by a single sector, where the backup is going to be, and that is written.

A table that such an interruption left is changed like a whole one. With any other damage it
is somebody's to repair who knows more.

Source: UEFI specification 2.10, section 5.3. sfdisk 2.38 cannot read sectors of 4096 bytes
from a plain file, and takes a disk that was cut for one without a GPT.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions import table
from virtstore.filesystems.partitions.gpt_copies import (
    ENTRY,
    LAST_LBA,
    Copies,
    Copy,
    Header,
    read_copies,
)
from virtstore.filesystems.partitions.gpt_second_copies import second_copies
from virtstore.filesystems.partitions.mbr_records import (
    MOST_SECTORS,
    PROTECTIVE,
    Record,
    has_signature,
    records,
    with_sectors,
)
from virtstore.filesystems.partitions.table import Regions, Write, Writes, end_of
from virtstore.model import Partition
from virtstore.text import printable
from virtstore.units import MAX_SIZE

_UNUSED: Final = bytes(16)


class Gpt(msgspec.Struct, frozen=True):
    """A GPT on a disk of `disk` bytes. `entries`: the sector where the primary's array is."""

    sector: int
    disk: int
    mbr: bytes
    header: Header
    array: bytes
    entries: int
    interrupted: bool
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...]
    damage: str | None
    measured: bool = True

    def room(self, number: int, disk_size: int) -> int:
        chosen = self._changeable(number)
        return table.aligned(self.limit(chosen, disk_size), end_of(chosen))

    def smallest_disk(self, number: int, size: int) -> int:
        chosen = self._changeable(number)
        end = chosen.start + self._sectors(size) * self.sector
        others = (end_of(p) for p in self.partitions if p.number != number)
        return self._smallest([end, *others])

    @property
    def least(self) -> int:
        return self._smallest([end_of(p) for p in self.partitions])

    def _smallest(self, ends: list[int]) -> int:
        first = self.header.first_usable * self.sector
        return max([first, *ends]) + (self._array_sectors + 1) * self.sector

    @property
    def among(self) -> Regions:
        return ()

    def backup(self, disk_size: int) -> int:
        return (self._last_usable(disk_size) + 1) * self.sector

    def lost(self, disk: Device) -> int | None:
        primary = read_copies(disk, self.sector).primary
        if primary is None or not 1 < primary.header.alternate < disk.size // self.sector:
            return None
        offset = primary.header.alternate * self.sector
        return offset if not any(disk.read(offset, self.sector)) else None

    def own(self, disk: Device, start: int, end: int) -> int:
        copies = second_copies(disk, self.sector)
        return copies.end(start, end) if copies else start

    def left_behind(self, disk: Device, disk_size: int) -> Writes:
        copies = second_copies(disk, self.sector)
        behind = max((end_of(p) for p in self.partitions), default=0)
        places = (
            lba * self.sector
            for last in sorted({self.header.alternate, self.disk // self.sector - 1})
            for lba in (copies.parts_of(last) if copies else ())
        )
        zeroed = (at for at in places if behind <= at < self.backup(disk_size))
        return tuple(_zeros(zeroed, self.sector))

    def resized(self, number: int, size: int, disk_size: int) -> Writes:
        chosen = self._changeable(number)
        table.require_size(size)
        end = chosen.start + self._sectors(size) * self.sector
        table.require_room(chosen, end, self.limit(chosen, disk_size))
        table.require_disk(self.smallest_disk(number, size), disk_size)
        self.refuse_hybrid(chosen, max(end, end_of(chosen)), disk_size)
        return self.plan(self._with_end(number, end // self.sector - 1), disk_size)

    def moved(self, disk_size: int) -> Writes:
        table.require_undamaged(self)
        table.require_disk(self.least, disk_size)
        return self.plan(self.array, disk_size)

    def _changeable(self, number: int) -> Partition:
        chosen = table.find(self.partitions, number)
        table.require_undamaged(self)
        return chosen

    def limit(self, chosen: Partition, disk_size: int) -> int:
        starts = [p.start for p in self.partitions if p.start > chosen.start]
        return min([*starts, (self._last_usable(disk_size) + 1) * self.sector])

    def _sectors(self, size: int) -> int:
        return -(-size // self.sector)

    @property
    def _array_sectors(self) -> int:
        return self._sectors(len(self.array))

    def _last_usable(self, disk_size: int) -> int:
        return disk_size // self.sector - 1 - self._array_sectors - 1

    def _with_end(self, number: int, lba: int) -> bytes:
        array = bytearray(self.array)
        struct.pack_into("<Q", array, (number - 1) * self.header.entry_size + LAST_LBA, lba)
        return bytes(array)

    def refuse_hybrid(self, chosen: Partition, end: int, disk_size: int) -> None:
        """A hybrid MBR names some of the partitions once more, for systems without GPT."""
        for record in _beside_protective(self.mbr):
            first = record.start * self.sector
            behind = first + record.sectors * self.sector
            if (first < end and behind > chosen.start) or behind > disk_size:
                raise Unsupported(
                    f"partition {chosen.number} is also in its hybrid MBR, which would have to"
                    " change with it; make that a protective one first (gdisk: x, n, w)"
                )

    def plan(self, array: bytes, disk_size: int) -> Writes:
        writes: list[Write] = []
        now = max(disk_size, self.disk)
        changes = array != self.array or self.interrupted
        if changes:
            writes += [*self._backup(array, now), *self._primary(array, now)]
        if not changes or disk_size < now:
            # The array stays, so the primary is whole at any moment. It comes first: from then
            # on nobody misses the backup in the last sector, which the next may lie upon.
            writes += [*self._primary(array, disk_size), *self._backup(array, disk_size)]
        return (*writes, *self._protective(disk_size))

    def _backup(self, array: bytes, disk_size: int) -> Iterator[Write]:
        last = disk_size // self.sector - 1
        entries = last - self._array_sectors
        yield Write(entries * self.sector, self._padded(array))
        yield Write(last * self.sector, self._head(last, 1, entries, array, disk_size))

    def _primary(self, array: bytes, disk_size: int) -> Iterator[Write]:
        last = disk_size // self.sector - 1
        head = self._head(1, last, self.entries, array, disk_size)
        if self.entries == 2:  # as everywhere: then in one write, so as to be half-done briefly
            yield Write(self.sector, head + self._padded(array))
        else:
            yield Write(self.entries * self.sector, self._padded(array))
            yield Write(self.sector, head)

    def _padded(self, array: bytes) -> bytes:
        return array.ljust(self._array_sectors * self.sector, b"\0")

    def _head(self, lba: int, other: int, entries: int, array: bytes, disk_size: int) -> bytes:
        head = bytearray(self.header.raw)
        struct.pack_into("<I", head, 16, 0)
        struct.pack_into("<QQ", head, 24, lba, other)
        struct.pack_into("<Q", head, 48, self._last_usable(disk_size))
        struct.pack_into("<Q", head, 72, entries)
        struct.pack_into("<I", head, 88, zlib.crc32(array))
        struct.pack_into("<I", head, 16, zlib.crc32(head[: self.header.length]))
        return bytes(head)

    def _protective(self, disk_size: int) -> Iterator[Write]:
        """Its MBR covers the disk; a hybrid one stays as it is."""
        if any(_beside_protective(self.mbr)):
            return
        covered = min(disk_size // self.sector - 1, MOST_SECTORS)
        slot = next(record.slot for record in records(self.mbr) if record.kind == PROTECTIVE)
        yield Write(0, with_sectors(self.mbr, slot, covered, None))


def _zeros(places: Iterable[int], sector: int) -> Iterator[Write]:
    """Zeros for each of these sectors, in as few writes as can be."""
    start = end = -1
    for at in places:
        if at != end and start >= 0:
            yield Write(start, bytes(end - start))
        start, end = (at if at != end else start), at + sector
    if start >= 0:
        yield Write(start, bytes(end - start))


def is_protective(mbr: bytes) -> bool:
    """Whether a disk's first 512 bytes say that a GPT follows: without that nobody looks for one
    (is_pmbr_valid in the kernel's block/partitions/efi.c)."""
    if not has_signature(mbr):
        return False
    return any(record.kind == PROTECTIVE and record.start == 1 for record in records(mbr))


def read_gpt(device: Device, sector: int) -> Gpt | None:
    """The GPT that a device with sectors of `sector` bytes has; None where no copy is whole.
    Raises `Corrupt` for one that says what cannot be."""
    copies = read_copies(device, sector)
    chosen = copies.believed
    if chosen is None:
        return None
    partitions = tuple(_partitions(chosen, sector))
    entries = copies.primary.header.entries if copies.primary else 2
    table_end = entries + -(-len(chosen.array) // sector)
    damage = copies.damage or _misplaced(chosen, table_end, partitions, sector, device.size)
    return Gpt(
        sector=sector,
        disk=device.size,
        mbr=device.read(0, 512),
        header=chosen.header,
        array=chosen.array,
        entries=entries,
        interrupted=copies.interrupted,
        partitions=partitions,
        warnings=tuple(_warnings(copies, chosen, damage)),
        damage=damage,
    )


def _partitions(copy: Copy, sector: int) -> Iterator[Partition]:
    for index in range(copy.header.slots):
        kind, _, first, final, _, name = ENTRY.unpack_from(copy.entry(index))
        if kind == _UNUSED:
            continue
        if (max(first, final) + 1) * sector > MAX_SIZE:
            raise Corrupt(f"its GPT says that partition {index + 1} lies where no disk reaches")
        yield Partition(
            number=index + 1,
            start=first * sector,
            size=max(final - first + 1, 0) * sector,
            type=str(uuid.UUID(bytes_le=kind)).upper(),
            name=_name(name) or None,
        )


def _name(raw: bytes) -> str:
    text = raw.decode("utf-16-le", "surrogatepass").partition("\0")[0]
    # Half a surrogate pair is what a name may hold and a message must not.
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return printable(text)


def _misplaced(
    copy: Copy, table_end: int, partitions: tuple[Partition, ...], sector: int, disk: int
) -> str | None:
    """What is wrong with where things lie; `table_end`: the sector behind the first array."""
    first = copy.header.first_usable
    if table_end > first:
        return "its GPT lies where partitions may"
    for each in partitions:
        if each.size == 0 or each.start < first * sector:
            return f"its GPT says that partition {each.number} lies where none can"
        if end_of(each) > disk:
            return f"partition {each.number} ends behind the end of the disk, which was cut"
    return table.overlap((p.start, end_of(p), f"partition {p.number}") for p in partitions)


def _warnings(copies: Copies, chosen: Copy, damage: str | None) -> Iterator[str]:
    if chosen is copies.backup:
        yield "its GPT is damaged at the disk's start; this is what the backup at its end says"
    elif damage:
        yield damage
    if chosen.header.last_usable > copies.last:
        yield "its GPT is for a larger disk: the image was cut" + ("" if damage else _NOTHING_LOST)


_NOTHING_LOST: Final = (
    " behind its last partition, and nothing of its partitions is missing; 'virtstore resize'"
    " writes the second copy of that table anew"
)


def _beside_protective(mbr: bytes) -> Iterator[Record]:
    for record in records(mbr):
        if record.kind not in (0, PROTECTIVE):
            yield record
