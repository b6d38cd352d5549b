"""NTFS's records: what they are made of, and where the parts of a file lie that are in none."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from virtstore.errors import Corrupt

_END: Final = 0xFFFFFFFF
_MOST_PARTS: Final = 1 << 16


class Attribute(NamedTuple):
    """A part of a file: `value` where it is in the record itself, else `runs` of `size` bytes, of
    which the first `valid` were written. `unit`: clusters that are compressed together, or 0."""

    type: int
    name: bytes
    flags: int
    value: bytes | None
    first: int
    runs: bytes
    size: int
    valid: int
    unit: int


def attributes(raw: bytes) -> Iterator[Attribute]:
    (at,) = struct.unpack_from("<H", raw, 20)
    while at + 16 <= len(raw):
        kind, length = struct.unpack_from("<II", raw, at)
        if kind == _END:
            return
        if length < 16 or at + length > len(raw):
            raise Corrupt("a record of its NTFS is damaged")
        yield _attribute(kind, raw[at : at + length])
        at += length


def _attribute(kind: int, raw: bytes) -> Attribute:
    outside, letters, named, flags = struct.unpack_from("<BBHH", raw, 8)
    name = raw[named : named + letters * 2]
    if not outside:
        length, begin = struct.unpack_from("<IH", raw, 16)
        value = raw[begin : begin + length]
        return Attribute(kind, name, flags, value, 0, b"", len(value), len(value), 0)
    first, _, runs, unit = struct.unpack_from("<QQHH", raw, 16)
    size, valid = struct.unpack_from("<QQ", raw, 48) if first == 0 else (0, 0)
    return Attribute(
        kind, name, flags, None, first, raw[runs:], size, valid, 1 << unit if unit else 0
    )


def pairs(runs: bytes) -> Iterator[tuple[int, int | None]]:
    """Of each run its clusters, and where it is from the one before; None for a hole."""
    at = count = 0
    while at < len(runs) and runs[at]:
        lengths, offsets = runs[at] & 15, runs[at] >> 4
        length = int.from_bytes(runs[at + 1 : at + 1 + lengths], "little")
        begin = at + 1 + lengths
        step = int.from_bytes(runs[begin : begin + offsets], "little", signed=True)
        yield length, step if offsets else None
        at = begin + offsets
        count += 1
        if count > _MOST_PARTS or not length:
            raise Corrupt("the runs of a file of its NTFS are damaged")


def mended(raw: bytes, mark: bytes) -> bytes:
    """A record as it was before the end of each sector was set apart, which tells whether all of it
    was written."""
    offset, count = struct.unpack_from("<HH", raw, 4)
    if raw[:4] != mark or (count - 1) * 512 > len(raw):
        raise Corrupt("a record of its NTFS is damaged")
    found = bytearray(raw)
    number = raw[offset : offset + 2]
    for sector in range(1, count):
        end = sector * 512
        if raw[end - 2 : end] != number:
            raise Corrupt("a record of its NTFS was not wholly written")
        found[end - 2 : end] = raw[offset + 2 * sector : offset + 2 * sector + 2]
    return bytes(found)
