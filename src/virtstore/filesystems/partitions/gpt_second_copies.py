"""Second copies of a GPT, wherever they lie behind its partitions: the one that counts, those that
a disk left behind when it grew, and what is left of them.

They may be written over and cut off, so no sector is taken for one that is not shown to be: a
header by its checksum and the table's GUID; an array by the checksum in such a header behind it,
or sector by sector, by being the same as one of the table's own array, in which a partition
may have ended elsewhere, or a swap partition lain elsewhere.
"""

from __future__ import annotations

from typing import Final

from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.gpt_copies import (
    FIRST_LBA,
    LAST_LBA,
    MAGIC,
    MOST_ENTRIES,
    SWAP,
    Copy,
    believed,
    read_header,
    same_but_for_place,
)

#: Sectors that are looked at in one read.
_PIECE: Final = 256


class SecondCopies:
    """Those of the table on `device` that `copy` is the first of."""

    def __init__(self, device: Device, sector: int, copy: Copy) -> None:
        self._device = device
        self._sector = sector
        self._copy = copy
        self._array = _split(copy.array, sector)
        self._known = {self._without_places(raw): n for n, raw in enumerate(self._array)}
        self._vouched: set[int] = set()

    def end(self, start: int, end: int) -> int:
        """The byte up to which, from the sector of byte `start` on and at most to `end`, there
        is nothing but second copies and zeros."""
        lba = start // self._sector
        while (at := lba * self._sector) < end:
            raw = self._device.read(at, _PIECE * self._sector)
            if not raw:
                break
            for index, each in enumerate(_split(raw, self._sector)):
                if any(each) and not self._is_own(lba + index, each):
                    return min(end, (lba + index) * self._sector)
            lba += _PIECE
        return end

    def parts_of(self, lba: int) -> list[int]:
        """The sectors of the second copy whose header is, or was, sector `lba` that are shown to
        be of one."""
        found = []
        for each in range(max(lba - self._copy.sectors, self._copy.sectors + 2), lba + 1):
            raw = self._device.read(each * self._sector, self._sector)
            if any(raw) and self._is_own(each, raw):
                found.append(each)
        return found

    def _is_own(self, lba: int, raw: bytes) -> bool:
        if lba in self._vouched or self._is_of_the_array(raw) or self._is_header(raw):
            return True
        self._vouched |= self._covered(lba)
        return lba in self._vouched

    def _is_header(self, raw: bytes) -> bool:
        header = read_header(raw, self._sector)
        if header is None or header.guid != self._copy.header.guid:
            return False
        rest = raw[header.length :]  # which its checksum does not cover
        return not any(rest) or rest == self._copy.header.raw[header.length :]

    def _is_of_the_array(self, raw: bytes) -> bool:
        index = self._known.get(self._without_places(raw))
        if index is None:
            return False
        ours = self._array[index]
        # What is no partition of the table's has no place that may differ.
        return all(
            one == other or (any(one[:FIRST_LBA]) and same_but_for_place(one, other))
            for one, other in zip(self._entries(ours), self._entries(raw), strict=True)
        )

    def _entries(self, raw: bytes) -> list[bytes]:
        size = self._copy.header.entry_size
        return [raw[at : at + size] for at in range(0, len(raw), size)]

    def _without_places(self, raw: bytes) -> bytes:
        """A sector of an array without what may differ in another copy of it."""
        sector = bytearray(raw)
        for at in range(0, len(raw), self._copy.header.entry_size):
            first = FIRST_LBA if raw[at:].startswith(SWAP) else LAST_LBA
            sector[at + first : at + LAST_LBA + 8] = bytes(LAST_LBA + 8 - first)
        return bytes(sector)

    def _covered(self, lba: int) -> set[int]:
        """The sectors of an array that a header vouches for which lies behind sector `lba`."""
        covered: set[int] = set()
        behind = self._device.read((lba + 1) * self._sector, MOST_ENTRIES + self._sector)
        for place, raw in enumerate(_split(behind, self._sector), lba + 1):
            if not (raw.startswith(MAGIC) and self._is_header(raw)):
                continue
            header = read_header(raw, self._sector)
            assert header
            found = Copy(header, self._device.read(header.entries * self._sector, header.size))
            if place - found.sectors <= header.entries < place and found.whole:
                covered |= set(range(header.entries, header.entries + found.sectors))
        return covered


def second_copies(device: Device, sector: int) -> SecondCopies | None:
    """Those of the GPT of a device with sectors of `sector` bytes; None where it has none."""
    copy = believed(device, sector)
    return SecondCopies(device, sector, copy) if copy else None


def _split(data: bytes, sector: int) -> list[bytes]:
    data = data.ljust(-(-len(data) // sector) * sector, b"\0")
    return [data[at : at + sector] for at in range(0, len(data), sector)]
