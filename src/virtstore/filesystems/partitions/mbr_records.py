"""The four records in a disk's first sector, and in the first of each logical partition.

A record: a flag, the first sector and the last as cylinder, head and sector (CHS), the type,
the first sector and the number of sectors. The last two are what everybody goes by.

Source: the kernel's include/linux/msdos_partition.h; for CHS, what sfdisk 2.38 writes:
255 heads of 63 sectors, and FE FF FF where the cylinder would not fit into ten bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

SECTOR: Final = 512
#: What start and size can count: 2 TiB less one sector.
MOST_SECTORS: Final = 0xFFFFFFFF
PROTECTIVE: Final = 0xEE
EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})

_FIRST: Final = 446
_RECORD: Final = struct.Struct("<B3sB3sII")
_HEADS: Final = 255
_TRACK: Final = 63


class Record(NamedTuple):
    """`slot` 0 to 3. What `start` is relative to depends on where the record stands."""

    slot: int
    kind: int
    start: int
    sectors: int

    @property
    def extended(self) -> bool:
        return self.kind in EXTENDED


def has_signature(sector: bytes) -> bool:
    return sector[510:SECTOR] == b"\x55\xaa"


def records(sector: bytes) -> tuple[Record, ...]:
    """The records that are in use: those of a size."""
    return tuple(record for record in _all(sector) if record.sectors)


def with_sectors(sector: bytes, slot: int, sectors: int, last: int | None) -> bytes:
    """The sector with another size in one record. `last`: the disk's sector where that ends;
    None leaves the CHS as it is."""
    at = _FIRST + slot * _RECORD.size
    flag, first, kind, end, start, _ = _RECORD.unpack_from(sector, at)
    changed = bytearray(sector)
    chs = end if last is None else _chs(last)
    _RECORD.pack_into(changed, at, flag, first, kind, chs, start, sectors)
    return bytes(changed)


def with_place(sector: bytes, slot: int, start: int, sectors: int, first: int) -> bytes:
    """The sector with another place in one record: `start`, relative to what the record's is,
    and `first`, the same as the disk's sector; for the CHS."""
    at = _FIRST + slot * _RECORD.size
    flag, _, kind, _, _, _ = _RECORD.unpack_from(sector, at)
    changed = bytearray(sector)
    last = _chs(first + sectors - 1)
    _RECORD.pack_into(changed, at, flag, _chs(first), kind, last, start, sectors)
    return bytes(changed)


def without_chs(sector: bytes) -> bytes:
    """The sector with no CHS in its records: what it says but for that."""
    changed = bytearray(sector)
    for at in range(_FIRST, _FIRST + 4 * _RECORD.size, _RECORD.size):
        flag, _, kind, _, start, sectors = _RECORD.unpack_from(sector, at)
        _RECORD.pack_into(changed, at, flag, bytes(3), kind, bytes(3), start, sectors)
    return bytes(changed)


def _all(sector: bytes) -> Iterator[Record]:
    for slot in range(4):
        _, _, kind, _, start, sectors = _RECORD.unpack_from(sector, _FIRST + slot * _RECORD.size)
        yield Record(slot, kind, start, sectors)


def _chs(lba: int) -> bytes:
    track, sector = divmod(lba, _TRACK)
    cylinder, head = divmod(track, _HEADS)
    if cylinder > 1023:
        return b"\xfe\xff\xff"
    return bytes([head, (cylinder >> 2 & 0xC0) | (sector + 1), cylinder & 0xFF])
