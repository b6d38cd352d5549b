"""How large a file system believes it is, read straight from its superblock.

What a shrink must not cut has to be known exactly, and a tool's answer would be one
process an image. Each reader takes a handful of fields at fixed places, believes none of
them (an image is hostile input), and answers None rather than something impossible.

Sources: the kernel's Documentation/filesystems/ext4/super.rst; fs/xfs/libxfs/xfs_format.h
(xfs_dsb); btrfs_tree.h (btrfs_super_block, btrfs_dev_item); linux/swap.h (swap_header);
Microsoft's FAT and exFAT specifications; ntfs-3g's layout.h (NTFS_BOOT_SECTOR).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from virtstore.filesystems.base import Device
from virtstore.filesystems.extsuper import read_superblock
from virtstore.units import MAX_SIZE

#: Page sizes that a swap area may have been made with; its magic ends the first page.
_SWAP_PAGES: Final = (4096, 8192, 16384, 32768, 65536)
_BTRFS_SUPERBLOCK: Final = 64 << 10


def filesystem_size(kind: str, device: Device) -> int | None:
    """Bytes of the file system that blkid calls `kind`; None where it cannot be told."""
    reader = _READERS.get(kind)
    if reader is None:
        return None
    try:
        size = reader(device)
    except struct.error:  # the device ends before the field does
        return None
    return size if size is not None and 0 < size <= MAX_SIZE else None


def _field(device: Device, offset: int, layout: str) -> int:
    value: int = struct.unpack(layout, device.read(offset, struct.calcsize(layout)))[0]
    return value


def _ext(device: Device) -> int | None:
    superblock = read_superblock(device)
    return superblock.size if superblock else None


def _xfs(device: Device) -> int | None:
    if device.read(0, 4) != b"XFSB":
        return None
    return _field(device, 4, ">I") * _field(device, 8, ">Q")


def _btrfs(device: Device) -> int | None:
    if device.read(_BTRFS_SUPERBLOCK + 0x40, 8) != b"_BHRfS_M":
        return None
    # dev_item.total_bytes: of this device, where total_bytes is that of all of them.
    return _field(device, _BTRFS_SUPERBLOCK + 0xD1, "<Q")


def _swap(device: Device) -> int | None:
    for page in _SWAP_PAGES:
        if device.read(page - 10, 10) == b"SWAPSPACE2":
            version, last_page = struct.unpack("<II", device.read(1024, 8))
            return (last_page + 1) * page if version == 1 else None
    return None


def _ntfs(device: Device) -> int | None:
    if device.read(3, 4) != b"NTFS":
        return None
    # The backup boot sector lies behind the sectors that are counted.
    return (_field(device, 0x28, "<Q") + 1) * _field(device, 0x0B, "<H")


def _vfat(device: Device) -> int | None:
    sectors = _field(device, 0x13, "<H") or _field(device, 0x20, "<I")
    return sectors * _field(device, 0x0B, "<H")


def _exfat(device: Device) -> int | None:
    shift = _field(device, 0x6C, "<B")
    return _field(device, 0x48, "<Q") << shift if 9 <= shift <= 12 else None


_READERS: Final[dict[str, Callable[[Device], int | None]]] = {
    "ext2": _ext,
    "ext3": _ext,
    "ext4": _ext,
    "xfs": _xfs,
    "btrfs": _btrfs,
    "swap": _swap,
    "ntfs": _ntfs,
    "vfat": _vfat,
    "exfat": _exfat,
}
