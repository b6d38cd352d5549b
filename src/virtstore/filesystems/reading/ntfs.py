"""Files on NTFS.

Names of DOS (8.3) and NTFS's own files ($MFT and the like) are left out, alternate streams as well.
Links and junctions are told with the path that Windows would follow. Source: Linux-NTFS project,
"NTFS Documentation".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from virtstore.errors import Corrupt, Unsupported
from virtstore.filesystems.reading.base import (
    MOST_TARGET,
    Node,
    Place,
    Run,
    Steps,
    Window,
    read_runs,
    whole,
)
from virtstore.filesystems.reading.lznt1 import unpacked
from virtstore.filesystems.reading.ntfs_records import Attribute, attributes, mended, pairs
from virtstore.model import FileKind

TYPES: Final = ("ntfs",)

_MFT, _VOLUME, _ROOT, _FIRST_OF_USERS = 0, 3, 5, 16
_TIMES, _LIST, _INFORMATION, _DATA = 0x10, 0x20, 0x70, 0x80
_INDEX_ROOT, _INDEX_BLOCKS, _BITMAP, _REPARSE = 0x90, 0xA0, 0xB0, 0xC0
_IN_USE, _DIRECTORY = 1, 2
_COMPRESSED, _ENCRYPTED = 0x00FF, 0x4000
_DIRTY: Final = 1
_LAST: Final = 2
_DOS: Final = 2
_NUMBER: Final = (1 << 48) - 1
_JUNCTION, _LINK = 0xA0000003, 0xA000000C
_PACKED_BY_WINDOWS: Final = 0x80000017
_INDEX: Final = "$I30".encode("utf-16-le")
#: 1601 to 1970, in units of 100 ns.
_EPOCH: Final = 116444736000000000
_MOST_LIST: Final = 1 << 20
_MOST_BITMAP: Final = 1 << 20


class NtfsReader:
    def __init__(self, disk: Window) -> None:
        self._disk = disk
        boot = disk.read(0, 512)
        if boot[3:11] != b"NTFS    ":
            raise Corrupt("it has no boot sector of NTFS")
        (sector,) = struct.unpack_from("<H", boot, 11)
        self._cluster = sector * _power(boot[13])
        (start,) = struct.unpack_from("<Q", boot, 48)
        record = struct.unpack_from("<b", boot, 64)[0]
        self._record = 1 << -record if record < 0 else record * self._cluster
        if not 512 <= self._cluster <= 2 << 20 or not 512 <= self._record <= 65536:
            raise Corrupt("the clusters or records of its NTFS have a size that cannot be")
        self._table: list[Run] = [Run(0, self._record * 16, start * self._cluster)]
        self._table = list(self._all_runs(self._parts(_MFT, _DATA, b"")))
        self.root: Place = (_ROOT,)
        self.notes = (_UNREPLAYED,) if self._is_dirty() else ()

    def node(self, place: Place) -> Node:
        raw = self._raw(place[0])
        flags = struct.unpack_from("<H", raw, 22)[0]
        times = self._parts(place[0], _TIMES, b"")
        modified = _modified(times[0].value) if times else None
        if tag := self._reparse(place[0]):
            kind: FileKind = "symlink" if tag in (_JUNCTION, _LINK) else "file"
            if kind == "symlink":
                return Node(place, kind, 0, modified)
        if flags & _DIRECTORY:
            return Node(place, "directory", 0, modified)
        data = self._parts(place[0], _DATA, b"")
        size = len(data[0].value) if data and data[0].value is not None else 0
        return Node(place, "file", size or (data[0].size if data else 0), modified)

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        number = node.place[0]
        found = self._parts(number, _INDEX_ROOT, _INDEX)
        root = found[0].value if found else None
        if root is None:
            raise Corrupt("a directory of its NTFS is damaged")
        yield from _listed(root, 16)
        blocks = self._parts(number, _INDEX_BLOCKS, _INDEX)
        if not blocks:
            return
        (size,) = struct.unpack_from("<I", root, 8)
        if not 512 <= size <= 65536:
            raise Corrupt("a directory of its NTFS is damaged")
        used = self._whole(self._parts(number, _BITMAP, _INDEX), _MOST_BITMAP)
        index, held, steps = 0, b"", Steps()
        for _, piece in self._stored(blocks):
            held += piece
            while len(held) >= size:
                steps.take()
                if index // 8 < len(used) and used[index // 8] >> index % 8 & 1:
                    yield from _listed(mended(held[:size], b"INDX"), 24)
                index, held = index + 1, held[size:]

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        if self._reparse(node.place[0]) == _PACKED_BY_WINDOWS:
            raise Unsupported(
                "a file is compressed by Windows' compact.exe, which is not read here"
            )
        yield from self._stored(self._parts(node.place[0], _DATA, b""))

    def target(self, node: Node) -> bytes:
        raw = self._whole(self._parts(node.place[0], _REPARSE, b""), 1 << 14)
        begin = 20 if struct.unpack_from("<I", raw)[0] == _LINK else 16
        offset, length = struct.unpack_from("<HH", raw, 12)  # the name for people
        text = raw[begin + offset : begin + offset + length].decode("utf-16-le", "replace")
        return text.encode("utf-8", "replace")[:MOST_TARGET]

    def _is_dirty(self) -> bool:
        found = self._parts(_VOLUME, _INFORMATION, b"")
        value = found[0].value if found else None
        return value is None or bool(struct.unpack_from("<H", value, 10)[0] & _DIRTY)

    def _reparse(self, number: int) -> int:
        found = self._parts(number, _REPARSE, b"")
        if not found:
            return 0
        return int(struct.unpack_from("<I", self._whole(found, 1 << 14))[0])

    def _raw(self, number: int) -> bytes:
        at = number * self._record
        for run in self._table:
            if run.offset <= at and at + self._record <= run.offset + run.length:
                raw = self._disk.read(run.start + at - run.offset, self._record)
                break
            if run.offset <= at < run.offset + run.length:  # it lies in two
                raw = b"".join(self._spread(at))
                break
        else:
            raise Corrupt(f"its NTFS names record {number}, which it has not")
        whole_record = mended(raw, b"FILE")
        if not struct.unpack_from("<H", whole_record, 22)[0] & _IN_USE:
            raise Corrupt(f"its NTFS names record {number}, which is not in use")
        return whole_record

    def _spread(self, at: int) -> Iterator[bytes]:
        end = at + self._record
        for run in self._table:
            if run.offset < end and at < run.offset + run.length:
                first, last = max(at, run.offset), min(end, run.offset + run.length)
                yield self._disk.read(run.start + first - run.offset, last - first)

    def _parts(self, number: int, kind: int, name: bytes) -> list[Attribute]:
        """The parts of a file of this type and name, in order: one in most cases."""
        found = list(attributes(self._raw(number)))
        lists = [each for each in found if each.type == _LIST]
        if lists and kind != _LIST:
            found = list(self._listed_parts(number, found, lists[0], kind))
        wanted = [each for each in found if each.type == kind and each.name == name]
        return sorted(wanted, key=lambda each: each.first)

    def _listed_parts(
        self, number: int, own: list[Attribute], listing: Attribute, kind: int
    ) -> Iterator[Attribute]:
        yield from own
        raw, at, seen = self._whole([listing], _MOST_LIST), 0, {number}
        while at + 26 <= len(raw):
            (type_,) = struct.unpack_from("<I", raw, at)
            (length,) = struct.unpack_from("<H", raw, at + 4)
            where = struct.unpack_from("<Q", raw, at + 16)[0] & _NUMBER
            if length < 26:
                raise Corrupt("a list of attributes of its NTFS is damaged")
            if type_ == kind and where not in seen:
                seen.add(where)
                yield from attributes(self._raw(where))
            at += length

    def _whole(self, parts: list[Attribute], most: int) -> bytes:
        if not parts:
            return b""
        value = parts[0].value
        return value if value is not None else whole(self._stored(parts), parts[0].size, most)

    def _stored(self, parts: list[Attribute]) -> Iterator[tuple[int, bytes]]:
        if not parts:
            return
        first = parts[0]
        if first.flags & _ENCRYPTED:
            raise Unsupported("that file is encrypted (EFS)")
        if first.value is not None:
            yield 0, first.value
        elif first.flags & _COMPRESSED:
            yield from self._compressed(parts)
        else:
            yield from read_runs(self._disk, self._all_runs(parts), min(first.size, first.valid))

    def _compressed(self, parts: list[Attribute]) -> Iterator[tuple[int, bytes]]:
        """Units of clusters: those that are stored whole are as they are, of others there are
        fewer clusters than a unit has."""
        first = parts[0]
        unit, end = first.unit * self._cluster, min(first.size, first.valid)
        if not self._cluster <= unit <= 1 << 20:
            raise Corrupt("the compression of a file of its NTFS is damaged")
        at, held = -1, b""
        for run in _split(self._all_runs(parts), unit):
            index = run.offset // unit * unit
            if index != at:
                yield from _of_unit(at, held, unit, end)
                at, held = index, b""
            held += self._disk.read(run.start, run.length)
        yield from _of_unit(at, held, unit, end)

    def _all_runs(self, parts: list[Attribute]) -> Iterator[Run]:
        for part in parts:
            offset, cluster = part.first * self._cluster, 0
            for count, step in pairs(part.runs):
                length = count * self._cluster
                if step is not None:
                    cluster += step
                    yield Run(offset, length, cluster * self._cluster)
                offset += length


def _of_unit(at: int, held: bytes, unit: int, end: int) -> Iterator[tuple[int, bytes]]:
    if at < 0 or at >= end:
        return
    data = held if len(held) >= unit else unpacked(held, unit)
    yield at, data[: end - at]


def _split(runs: Iterator[Run], unit: int) -> Iterator[Run]:
    """The same, none of which is in two units."""
    for run in runs:
        done = 0
        while done < run.length:
            offset = run.offset + done
            step = min(run.length - done, unit - offset % unit)
            yield Run(offset, step, run.start + done)
            done += step


def _listed(raw: bytes, header: int) -> Iterator[tuple[bytes, Place]]:
    first, total = struct.unpack_from("<II", raw, header)
    at, end = header + first, min(header + total, len(raw))
    while at + 16 <= end:
        number, length, _, flags = struct.unpack_from("<QHHI", raw, at)
        if flags & _LAST:
            return
        if length < 16:
            raise Corrupt("a directory of its NTFS is damaged")
        letters, space = raw[at + 16 + 64], raw[at + 16 + 65]
        name = raw[at + 16 + 66 : at + 16 + 66 + letters * 2]
        if space != _DOS and number & _NUMBER >= _FIRST_OF_USERS:
            yield (
                name.decode("utf-16-le", "replace").encode("utf-8", "replace"),
                (number & _NUMBER,),
            )
        at += length


def _modified(value: bytes | None) -> int | None:
    if value is None:
        return None
    return int((struct.unpack_from("<Q", value, 8)[0] - _EPOCH) * 100)


def _power(code: int) -> int:
    return int(code) if code <= 128 else 1 << (256 - code)


_UNREPLAYED: Final = (
    "its NTFS was not closed, as the machine was running or was not shut down: what it wrote in its"
    " last seconds may be missing or incomplete here"
)
