"""Files on FAT12, FAT16 and FAT32 (vfat).

Times are told as if they were UTC: FAT has those of the machine's own clock, and not which. Source:
Microsoft's "FAT: General Overview of On-Disk Format".
"""

from __future__ import annotations

import struct
from calendar import timegm
from collections.abc import Iterator
from typing import Final

from virtstore.errors import Corrupt
from virtstore.filesystems.reading.base import Node, Place, Run, Window, read_runs

TYPES: Final = ("vfat",)

_ENTRY: Final = 32
_VOLUME: Final = 0x08
_DIRECTORY: Final = 0x10
_PART_OF_A_LONG_NAME: Final = 0x0F
_LAST_PART: Final = 0x40
_DELETED: Final = 0xE5
_MOST_PARTS: Final = 20
#: Clusters from which on there are 16 bits for each, and then 32.
_FAT16_FROM: Final = 4085
_FAT32_FROM: Final = 65525
_MOST_IN_DIRECTORY: Final = 65536 * _ENTRY


class FatReader:
    """A place is what its entry says: first cluster, size, kind and time."""

    notes: tuple[str, ...] = ()

    def __init__(self, disk: Window) -> None:
        self._disk = disk
        head = disk.read(0, 512)
        sector, per_cluster, reserved, fats, self._root_entries, short = struct.unpack_from(
            "<HBHBHH", head, 11
        )
        (long_,), (small,), (large,) = (
            struct.unpack_from(form, head, at) for form, at in (("<I", 32), ("<H", 22), ("<I", 36))
        )
        if sector not in (512, 1024, 2048, 4096) or not per_cluster or not fats:
            raise Corrupt("it has no boot sector of FAT")
        self._cluster = sector * per_cluster
        self._table = reserved * sector
        self._fixed_root = self._table + fats * (small or large) * sector
        self._data = self._fixed_root + -(-self._root_entries * _ENTRY // sector) * sector
        self._count = ((short or long_) * sector - self._data) // self._cluster
        self._bits = 12 if self._count < _FAT16_FROM else 16 if self._count < _FAT32_FROM else 32
        first = struct.unpack_from("<I", head, 44)[0] if self._bits == 32 else 0
        self.root: Place = (first, 0, _DIRECTORY, -1)

    def node(self, place: Place) -> Node:
        _, size, attributes, seconds = place
        modified = None if seconds < 0 else seconds * 10**9
        if attributes & _DIRECTORY:
            return Node(place, "directory", 0, modified)
        return Node(place, "file", size, modified)

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        parts: list[bytes] = []
        for raw in self._raw_entries(node.place[0]):
            if raw[0] == 0:
                return
            attributes = raw[11]
            if raw[0] == _DELETED:
                parts = []
            elif attributes & 0x3F == _PART_OF_A_LONG_NAME:
                parts = [*([] if raw[0] & _LAST_PART else parts), _part(raw)][-_MOST_PARTS:]
            else:
                name = _long(parts) or _short(raw)
                parts = []
                if not attributes & _VOLUME and name not in (b".", b".."):
                    yield name, self._place(raw)

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        yield from read_runs(self._disk, self._runs(node.place[0], node.size), node.size)

    def target(self, node: Node) -> bytes:
        raise Corrupt("FAT has no links")

    def _place(self, raw: bytes) -> Place:
        high, time, date, low, size = struct.unpack_from("<4HI", raw, 20)
        first = low | (high << 16 if self._bits == 32 else 0)
        size = 0 if raw[11] & _DIRECTORY else size
        return first, size, raw[11], _seconds(date, time)

    def _raw_entries(self, first: int) -> Iterator[bytes]:
        if first == 0:
            length = self._root_entries * _ENTRY
            pieces: Iterator[bytes] = iter([self._disk.read(self._fixed_root, length)])
        else:
            runs = self._runs(first, _MOST_IN_DIRECTORY)
            pieces = (data for _, data in read_runs(self._disk, runs, _MOST_IN_DIRECTORY))
        for piece in pieces:
            for at in range(0, len(piece), _ENTRY):
                yield piece[at : at + _ENTRY]

    def _runs(self, cluster: int, size: int) -> Iterator[Run]:
        """The runs of what begins in a cluster, until it ends or has `size` bytes."""
        offset = 0
        while offset < size:
            if not 2 <= cluster < self._count + 2:
                if self._is_end(cluster) and size == _MOST_IN_DIRECTORY:
                    return
                raise Corrupt("a file of its FAT ends before its size, or lies outside")
            begin, length, here = offset, 0, cluster
            while cluster == here + length // self._cluster and offset + length < size:
                length += self._cluster
                cluster = self._next(cluster)
            yield Run(begin, length, self._data + (here - 2) * self._cluster)
            offset += length

    def _is_end(self, cluster: int) -> bool:
        most = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self._bits]
        return cluster >= most

    def _next(self, cluster: int) -> int:
        if self._bits == 12:
            (pair,) = struct.unpack("<H", self._disk.read(self._table + cluster * 3 // 2, 2))
            return int(pair >> 4 if cluster & 1 else pair & 0xFFF)
        if self._bits == 16:
            return int.from_bytes(self._disk.read(self._table + cluster * 2, 2), "little")
        return int.from_bytes(self._disk.read(self._table + cluster * 4, 4), "little") & 0x0FFFFFFF


def _part(raw: bytes) -> bytes:
    return raw[1:11] + raw[14:26] + raw[28:32]


def _long(parts: list[bytes]) -> bytes:
    """The name whose parts come last first; empty where there are none."""
    units = b"".join(reversed(parts))
    text = units.decode("utf-16-le", "replace").partition("\0")[0]
    return text.encode("utf-8", "replace")


def _short(raw: bytes) -> bytes:
    stem, suffix = (raw[begin:end].decode("cp437").rstrip() for begin, end in ((0, 8), (8, 11)))
    if raw[0] == 0x05:  # stands for the byte that means deleted
        stem = b"\xe5".decode("cp437") + stem[1:]
    stem = stem.lower() if raw[12] & 0x08 else stem
    suffix = suffix.lower() if raw[12] & 0x10 else suffix
    return f"{stem}.{suffix}".encode() if suffix else stem.encode()


def _seconds(date: int, time: int) -> int:
    """Seconds since 1970; -1 for no date."""
    day, month, year = date & 31, date >> 5 & 15, (date >> 9) + 1980
    if not 1 <= day <= 31 or not 1 <= month <= 12:
        return -1
    return timegm((year, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2, 0, 0, 0))
