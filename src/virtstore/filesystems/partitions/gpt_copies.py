"""The two copies of a GPT as they lie on a disk, and which of them is to be believed.

A copy is a header whose checksum holds and an array of entries, whose checksum the header
has. The first copy counts where it is whole; else the one in the last sector does, as for
blkid, sfdisk and firmware. An interrupted change of where one partition ends, or where a swap
partition lies, is told from damage by that: the copies differ in nothing else.

Source: UEFI specification 2.10, section 5.3; for what a reader has to accept, the kernel's
block/partitions/efi.c.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import Final, NamedTuple

from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.table import LINUX_SWAP
from virtstore.units import MAX_SIZE

MAGIC: Final = b"EFI PART"
HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
#: Type, GUID, first and last sector, attributes, name.
ENTRY: Final = struct.Struct("<16s16sQQQ72s")
FIRST_LBA: Final = 32  # of an entry, eight bytes
LAST_LBA: Final = 40  # likewise
_NEXT: Final = 48
#: Of the partitions that are moved: no others are.
SWAP: Final = uuid.UUID(LINUX_SWAP).bytes_le

#: Bytes of an array: 1024 entries, where 128 are usual. More would not fit into an answer.
MOST_ENTRIES: Final = 128 << 10
_REPAIR: Final = "; look at it with gdisk, which can rebuild one copy from the other"


class Header(NamedTuple):
    """`raw`: the whole sector. Places are in sectors, `length` and `entry_size` in bytes."""

    raw: bytes
    length: int
    lba: int
    alternate: int
    first_usable: int
    last_usable: int
    guid: bytes
    entries: int
    slots: int
    entry_size: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return self.slots * self.entry_size

    @property
    def identity(self) -> tuple[object, ...]:
        """What both copies of one table say."""
        return (self.length, self.guid, self.first_usable, self.slots, self.entry_size)


class Copy(NamedTuple):
    header: Header
    array: bytes

    @property
    def sectors(self) -> int:
        """Of its array."""
        return -(-len(self.array) // len(self.header.raw))

    @property
    def whole(self) -> bool:
        """Whether its array is there to its end, and has the checksum: that of nothing is easily
        had."""
        there = len(self.array) == self.header.size
        return there and zlib.crc32(self.array) == self.header.checksum

    def entry(self, index: int) -> bytes:
        size = self.header.entry_size
        return self.array[index * size : (index + 1) * size]


class Copies(NamedTuple):
    """Each None where its header is not whole. `marked`: the last sector says it is a backup."""

    primary: Copy | None
    backup: Copy | None
    marked: bool
    last: int

    @property
    def believed(self) -> Copy | None:
        return next((copy for copy in (self.primary, self.backup) if copy and copy.whole), None)

    @property
    def interrupted(self) -> bool:
        """Whether they are what a change of one partition's end, or of a swap partition's place,
        left that was cut short."""
        one, other = self.primary, self.backup
        if one is None or other is None or one.header.identity != other.header.identity:
            return False
        differing = [i for i in range(one.header.slots) if one.entry(i) != other.entry(i)]
        if not differing:
            return not (one.whole and other.whole)
        [first, *more] = differing
        return not more and same_but_for_place(one.entry(first), other.entry(first))

    @property
    def damage(self) -> str | None:
        """Why neither may be written over, or None."""
        if self.interrupted:
            return None
        if self.primary is None or not self.primary.whole:
            return f"the first copy of its GPT is damaged, and only the backup is whole{_REPAIR}"
        if self.primary.header.alternate != self.last or not self.marked:
            return None  # the disk was grown or cut, and the backup is not where it ends
        if self.backup is None or not self.backup.whole:
            return f"the backup of its GPT is damaged{_REPAIR}"
        if _said(self.primary) != _said(self.backup):
            return f"the two copies of its GPT do not say the same{_REPAIR}"
        return None


def read_copies(device: Device, sector: int) -> Copies:
    """What a device with sectors of `sector` bytes has; whatever is on it, this returns."""
    last = device.size // sector - 1
    marked = last > 1 and device.read(last * sector, len(MAGIC)) == MAGIC
    backup = _read_copy(device, sector, last) if marked else None
    return Copies(_read_copy(device, sector, 1), backup, marked, last)


def believed(device: Device, sector: int) -> Copy | None:
    """The copy that counts on a device with sectors of `sector` bytes."""
    return read_copies(device, sector).believed


def read_header(raw: bytes, sector: int) -> Header | None:
    """The header that a sector holds, wherever it says it lies; None where it is none, or its
    checksum does not hold."""
    if len(raw) < sector or not raw.startswith(MAGIC):
        return None
    _, _, length, checksum, _, *fields = HEADER.unpack_from(raw)
    if not HEADER.size <= length <= sector:
        return None
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != checksum:
        return None
    header = Header(raw, length, *fields)
    return header if _plausible(header) else None


def _read_copy(device: Device, sector: int, lba: int) -> Copy | None:
    header = read_header(device.read(lba * sector, sector), sector)
    if header is None or header.lba != lba:
        return None
    return Copy(header, device.read(header.entries * sector, header.size))


def _plausible(header: Header) -> bool:
    size = header.entry_size
    if size < ENTRY.size or size & (size - 1) or header.entries > MAX_SIZE // 4096:
        return False
    return 0 < header.slots * size <= MOST_ENTRIES


def same_but_for_place(one: bytes, other: bytes) -> bool:
    """Whether two entries differ in no more than where the partition ends; or, of swap, in where
    it lies, its length the same."""
    if one[:FIRST_LBA] + one[_NEXT:] != other[:FIRST_LBA] + other[_NEXT:]:
        return False
    (first, last), (other_first, other_last) = _place(one), _place(other)
    moved = one.startswith(SWAP) and last - first == other_last - other_first
    return first == other_first or moved


def _place(entry: bytes) -> tuple[int, int]:
    first, last = struct.unpack_from("<QQ", entry, FIRST_LBA)
    return first, last


def _said(copy: Copy) -> tuple[object, ...]:
    return (copy.header.identity, copy.array)
