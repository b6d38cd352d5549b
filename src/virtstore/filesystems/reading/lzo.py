"""LZO1X, as Btrfs has it: segments of a sector, each by itself. Sources: the kernel's
Documentation/staging/lzo.rst, and fs/btrfs/lzo.c on how segments are put into sectors."""

from __future__ import annotations

from typing import Final

from virtstore.errors import Corrupt

_SECTOR: Final = 4096
_HEADER: Final = 4
#: How far back a short match reaches right behind literals, and a far one at least.
_BEHIND_LITERALS: Final = 0x800
_FAR: Final = 0x4000


def unpacked(data: bytes, size: int) -> bytes:
    """What an extent of `size` bytes holds. Raises `Corrupt`, and `IndexError` where it ends in the
    middle."""
    total = int.from_bytes(data[:_HEADER], "little")
    found, at = bytearray(), _HEADER
    while at + _HEADER <= min(total, len(data)) and len(found) < size:
        if _SECTOR - at % _SECTOR < _HEADER:  # no header is in two sectors
            at += _SECTOR - at % _SECTOR
        length = int.from_bytes(data[at : at + _HEADER], "little")
        at += _HEADER
        found += _Segment(data[at : at + length]).unpacked()
        at += length
    return bytes(found[:size])


class _Segment:
    """One that is being unpacked. `_literals`: how many the last step copied as they were; 4 where
    it was a run of them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._found = bytearray()
        self._literals = 0

    def unpacked(self) -> bytes:
        first = self._data[0]
        if first > 17:
            self._at = 1
            self._copy(first - 17)
            self._literals = min(first - 17, 4)
        while self._step(self._byte()):
            if len(self._found) > _SECTOR:
                raise Corrupt("a compressed part of a file is longer than any can be")
        return bytes(self._found)

    def _step(self, code: int) -> bool:
        """Do what one instruction says. False at the end."""
        if code >= 64:
            self._match((code >> 5) + 1, 1 + (code >> 2 & 7) + (self._byte() << 3), code)
        elif code >= 32:
            length = self._long(code & 31, 31) + 2
            pair = self._byte() | self._byte() << 8
            self._match(length, 1 + (pair >> 2), pair)
        elif code >= 16:
            length = self._long(code & 7, 7) + 2
            pair = self._byte() | self._byte() << 8
            back = ((code & 8) << 11) + (pair >> 2)
            if not back:
                return False
            self._match(length, back + _FAR, pair)
        elif self._literals == 0:
            self._copy(self._long(code, 15) + 3)
            self._literals = 4
        else:
            run = self._literals == 4
            back = 1 + (code >> 2) + (self._byte() << 2)
            self._match(3 if run else 2, back + (_BEHIND_LITERALS if run else 0), code)
        return True

    def _match(self, length: int, back: int, code: int) -> None:
        if back > len(self._found) or length > _SECTOR:
            raise Corrupt("a compressed part of a file is damaged")
        for _ in range(length):
            self._found.append(self._found[-back])
        self._literals = code & 3
        self._copy(self._literals)

    def _copy(self, length: int) -> None:
        if self._at + length > len(self._data):
            raise Corrupt("a compressed part of a file is damaged")
        self._found += self._data[self._at : self._at + length]
        self._at += length

    def _long(self, length: int, most: int) -> int:
        """A length that did not fit into its instruction, where that says 0."""
        if length:
            return length
        while (byte := self._byte()) == 0:
            length += 255
        return length + most + byte

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]
