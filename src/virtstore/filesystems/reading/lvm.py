"""Logical volumes within a disk: which there are, and where their bytes lie.

Linear and striped volumes are read, whose physical volumes are all on
this disk. Others (thin, RAID, cached, snapshots) are named, and not read. Source: LVM2's sources,
lib/format_text/layout.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Error, Unsupported
from virtstore.filesystems.reading.base import Window, soundness
from virtstore.units import MAX_SIZE

TYPE: Final = "LVM2_member"

_SECTOR: Final = 512
_LABEL: Final = b"LABELONE"
_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_MOST_TEXT: Final = 16 << 20
_MOST_AREAS: Final = 16
_MOST_SEGMENTS: Final = 1 << 16
_DEEPEST: Final = 16
_TOKEN: Final = re.compile(r'#[^\n]*|"(?:[^"\\]|\\.)*"|[{}=,\[\]]|[^\s{}=,\[\]#"]+')

_Value = str | int | list["_Value"]
_Section = dict[str, "_Value | _Section"]


class _Segment(msgspec.Struct, frozen=True):
    """`length` bytes from `offset`, spread over `stripes` (a disk and the byte there) in turn,
    `stripe` bytes each time."""

    offset: int
    length: int
    stripes: tuple[tuple[Window, int], ...]
    stripe: int


class Volume:
    """A logical volume, as a disk. `trouble`: why it cannot be read, if so."""

    def __init__(self, name: str, segments: Sequence[_Segment], trouble: str = "") -> None:
        self.name, self.trouble = name, trouble
        self._segments = sorted(segments, key=lambda each: each.offset)
        self.size = max((each.offset + each.length for each in segments), default=0)

    def read_at(self, offset: int, length: int) -> bytes:
        found = bytearray()
        end = min(offset + length, self.size)
        while offset + len(found) < end:
            at = offset + len(found)
            found += self._part(at, end - at)
        return bytes(found)

    def _part(self, at: int, length: int) -> bytes:
        for each in self._segments:
            if each.offset <= at < each.offset + each.length:
                row, skipped = divmod(at - each.offset, each.stripe)
                turn, column = divmod(row, len(each.stripes))
                disk, start = each.stripes[column]
                most = min(each.stripe - skipped, each.offset + each.length - at)
                return disk.read(start + turn * each.stripe + skipped, min(length, most))
        raise Corrupt(f"the logical volume {self.name} has nothing at byte {at}")


def volumes(disks: Sequence[Window]) -> list[Volume]:
    """The logical volumes on those of these disks, or partitions, that are physical volumes. What
    is damaged, or not understood, has none."""
    found: dict[str, Window] = {}
    texts: dict[str, str] = {}
    for disk in disks:
        try:
            with soundness():
                identity, text = _physical(disk)
        except Error:
            continue
        found[identity] = disk
        texts[identity] = text
    groups: dict[str, list[Volume]] = {}
    for text in texts.values():
        with suppress(Error), soundness():
            groups.update(_groups(text, found))
    return [volume for each in groups.values() for volume in each]


def _physical(disk: Window) -> tuple[str, str]:
    """The identity of a physical volume, and what it says of its group."""
    for sector in range(4):
        label = disk.read(sector * _SECTOR, _SECTOR)
        if label[:8] == _LABEL and label[24:32] == b"LVM2 001":
            return _described(disk, label)
    raise Corrupt("it has no label of LVM")


def _described(disk: Window, label: bytes) -> tuple[str, str]:
    at = struct.unpack_from("<I", label, 20)[0]
    identity = label[at : at + 32].decode("ascii")
    areas = struct.iter_unpack("<QQ", label[at + 40 : at + 40 + 16 * _MOST_AREAS])
    ends = 0
    for offset, size in areas:
        if offset == 0:
            ends += 1
        elif ends == 1:
            return identity, _metadata(disk, offset, size)
        if ends == 2:
            break
    return identity, ""


def _metadata(disk: Window, area: int, size: int) -> str:
    head = disk.read(area, _SECTOR)
    if head[4:20] != _MAGIC:
        raise Corrupt("the metadata of LVM are damaged")
    offset, length = struct.unpack_from("<QQ", head, 40)
    if length > _MOST_TEXT or not _SECTOR <= offset < size:
        raise Corrupt("the metadata of LVM are damaged")
    first = disk.read(area + offset, min(length, size - offset))
    rest = disk.read(area + _SECTOR, length - len(first)) if length > len(first) else b""
    return (first + rest).decode("utf-8", "replace").partition("\0")[0]


def _groups(text: str, disks: Mapping[str, Window]) -> Iterator[tuple[str, list[Volume]]]:
    tokens = (each for each in _TOKEN.findall(text) if not each.startswith("#"))
    for name, group in _section(tokens).items():
        if isinstance(group, dict) and "extent_size" in group:
            yield name, [_volume(name, lv, each, group, disks) for lv, each in _visible(group)]


def _section(tokens: Iterator[str], depth: int = 0) -> _Section:
    """What is between a pair of braces, or in all of a text."""
    if depth > _DEEPEST:
        raise Corrupt("the metadata of LVM are damaged")
    found: _Section = {}
    for name in tokens:
        if name == "}":
            return found
        follows = next(tokens, "")
        if follows == "{":
            found[name] = _section(tokens, depth + 1)
        elif follows == "=":
            found[name] = _value(next(tokens, ""), tokens)
        else:
            raise Corrupt("the metadata of LVM are damaged")
    return found


def _value(token: str, tokens: Iterator[str]) -> _Value:
    if token == "[":
        return [
            _value(each, tokens) for each in iter(lambda: next(tokens, "]"), "]") if each != ","
        ]
    if token.startswith('"'):
        return token[1:-1]
    return int(token) if re.fullmatch(r"-?\d{1,19}", token) else token


def _visible(group: _Section) -> Iterator[tuple[str, _Section]]:
    for name, volume in _part(group, "logical_volumes").items():
        if isinstance(volume, dict):
            status = volume.get("status")
            if isinstance(status, list) and "VISIBLE" in status:
                yield name, volume


def _volume(
    group_name: str, name: str, volume: _Section, group: _Section, disks: Mapping[str, Window]
) -> Volume:
    full = f"{group_name}/{name}"
    try:
        return Volume(full, list(_segments(volume, group, disks)))
    except Unsupported as error:
        return Volume(full, (), error.message)


def _segments(volume: _Section, group: _Section, disks: Mapping[str, Window]) -> Iterator[_Segment]:
    extent = _number(group, "extent_size") * _SECTOR
    for index in range(min(_number(volume, "segment_count"), _MOST_SEGMENTS)):
        segment = _part(volume, f"segment{index + 1}")
        if segment.get("type") != "striped":
            raise Unsupported(f"it is of the kind {segment.get('type')}, which is not read here")
        stripes = tuple(_stripes(segment, group, disks, extent))
        length = _number(segment, "extent_count") * extent
        stripe = _number(segment, "stripe_size") * _SECTOR if len(stripes) > 1 else length
        if not stripes or stripe <= 0:
            raise Corrupt("the metadata of LVM are damaged")
        yield _Segment(_number(segment, "start_extent") * extent, length, stripes, stripe)


def _stripes(
    segment: _Section, group: _Section, disks: Mapping[str, Window], extent: int
) -> Iterator[tuple[Window, int]]:
    told = segment.get("stripes")
    if not isinstance(told, list):
        raise Corrupt("the metadata of LVM are damaged")
    for name, first in zip(told[::2], told[1::2], strict=True):
        physical = _part(_part(group, "physical_volumes"), str(name))
        disk = disks.get(str(physical.get("id")).replace("-", ""))
        if disk is None:
            raise Unsupported("a part of it is on another disk")
        yield disk, _number(physical, "pe_start") * _SECTOR + int(str(first)) * extent


def _part(section: _Section, name: str) -> _Section:
    found = section.get(name, {})
    return found if isinstance(found, dict) else {}


def _number(section: _Section, name: str) -> int:
    found = section.get(name)
    if not isinstance(found, int) or not 0 <= found <= MAX_SIZE:
        raise Corrupt("the metadata of LVM are damaged")
    return found
