"""FAT12, FAT16 and FAT32: recognised, but not resized.

fatresize (1.1.0, with libparted 3.5) is the only tool there is for it, and did not prove
trustworthy. It aborts on an assertion where a file system fills its device, as a file or as a
block device. It wants a whole partitioned disk, whose table it rewrites by itself: asked for
500 MiB it made the partition 1,023,343 sectors, 657 short. It loses the label in the boot
sector, and its manual warns of what Windows does with a small FAT32. The files themselves were
intact each time, also the two times that it was killed half-way.

Seen on FAT16 and FAT32 of 100 to 600 MiB with 300 files, on a file and a loop device.
"""

from __future__ import annotations

import struct

from virtstore.errors import Unsupported
from virtstore.filesystems.base import Capabilities, Device, Resized, Watch, unwatched


def _cannot_resize() -> Unsupported:
    return Unsupported(
        "a FAT file system cannot be resized: the only tool for it (fatresize) crashes on some and"
        " changes partition tables by itself; make a new one of the size you want (mkfs.vfat) and"
        " copy the files into it (mcopy)"
    )


class Fat:
    types: tuple[str, ...] = ("vfat",)
    capabilities = Capabilities(grow=False, shrink=False, tools=(), why_not=_cannot_resize)

    def size(self, device: Device) -> int | None:
        """See the contract."""
        head = device.read(0, 0x24)
        if len(head) < 0x24:
            return None
        (sector,) = struct.unpack_from("<H", head, 0x0B)
        (few,) = struct.unpack_from("<H", head, 0x13)
        (many,) = struct.unpack_from("<I", head, 0x20)
        return sector * (few or many) or None

    def minimum(self, device: Device) -> None:
        """See the contract. It cannot be shrunk at all."""

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract: always `Unsupported`."""
        raise _cannot_resize()

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract: always `Unsupported`."""
        raise _cannot_resize()
