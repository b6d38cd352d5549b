"""The open device, and how it is overwritten.

A device has no second name that could say "neither old nor new", and nothing is kept on the host.
So the mark lies on the device. With the first byte that changes, its first 128 KiB are replaced by
a text and zeros. What belongs there is written last, and its first block last of all. Boot
sectors, partition tables and superblocks lie there, but for their second copies: so nobody takes
what an interrupted copy leaves for a disk. What was there before is gone from that moment on."""

from __future__ import annotations

import os
import threading
from typing import Final

from virtstore.backends.base import (
    Holds,
    ImageDraft,
    Version,
    nothing,
)
from virtstore.backends.block_device.sysfs import SECTOR, disk_of, fact, number_of
from virtstore.backends.device import DeviceImage
from virtstore.backends.in_place import InPlace

#: Bytes that are written last. Btrfs has its superblock furthest behind, at 64 KiB.
_FIRST: Final = 128 << 10
_MARK: Final = (
    b"virtstore: a copy to this device was interrupted, and what is on it is neither old nor new."
    b" The same command makes it whole.\n"
)


class BlockImage(DeviceImage):
    """The open device."""

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def marked(self) -> bool:
        """Whether an interrupted copy left it neither old nor new."""
        return os.pread(self._fd, len(_MARK), 0) == _MARK


class BlockDraft(BlockImage, ImageDraft):
    """The device while it is overwritten. What belongs to its beginning is kept in memory from the
    first change to the last. A device that an interrupted copy left has the mark there until this
    is written."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.holds: Holds = "kept"
        self.whole = False
        self.in_place = InPlace(self, self._mark, nothing)
        self._first: bytearray | None = None
        self._keeping = threading.Lock()

    def _mark(self) -> None:
        # Kept first: who reads meanwhile finds what was there, and never the mark.
        self._first = first = bytearray(super().read_at(0, _FIRST))
        block = self._logical_block()
        DeviceImage.write_at(self, 0, _MARK.ljust(block, b"\0"))
        self.flush()  # before anything else is another
        DeviceImage.write_at(self, block, bytes(len(first) - block))
        self.flush()

    def read_at(self, offset: int, length: int) -> bytes:
        data = super().read_at(offset, length)
        if self._first is None or offset >= len(self._first):
            return data
        kept = bytes(self._first[offset : offset + len(data)])
        return kept + data[len(kept) :]

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.in_place.lose_name()
        kept = self._keep(offset, bytes(memoryview(data)[: max(_FIRST - offset, 0)]))
        DeviceImage.write_at(self, offset + kept, memoryview(data)[kept:])

    def zero(self, offset: int, length: int) -> None:
        self.in_place.lose_name()
        kept = self._keep(offset, bytes(min(length, max(_FIRST - offset, 0))))
        if length > kept:
            DeviceImage.zero(self, offset + kept, length - kept)

    def _keep(self, offset: int, data: bytes) -> int:
        """Put aside the data that is to be written last. Returns how many bytes that is."""
        with self._keeping:
            if data and self._first is None:
                self._first = bytearray(super().read_at(0, _FIRST))
            if data and self._first is not None:
                self._first[offset : offset + len(data)] = data
        return len(data)

    def finish(self) -> None:
        self.flush()
        self.whole = True

    def note_losses(self, note: str) -> bool:
        return False

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if self._first is not None:
            block = self._logical_block()
            DeviceImage.write_at(self, block, memoryview(self._first)[block:])
            self.flush()
            DeviceImage.write_at(self, 0, memoryview(self._first)[:block])
            self.flush()
            self._first, self.in_place.named = None, True
        self.whole = False

    def _logical_block(self) -> int:
        """The bytes that a disk writes whole or not at all."""
        disk = disk_of(number_of(os.fstat(self._fd)))
        return int(fact(disk, "queue/logical_block_size") or SECTOR)
