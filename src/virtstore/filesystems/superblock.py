"""How large a file system says it is, of whatever kind, also of one that is not resized here.

What a shrink must not cut has to be known exactly, and a tool's answer would be one process an
image. Each kind reads a handful of fields at fixed places, believes none of them (an image is
hostile input), and answers None rather than something impossible (`FileSystem.size`).

Source: Microsoft's exFAT specification.
"""

from __future__ import annotations

from virtstore.filesystems.base import Device
from virtstore.filesystems.registry import FILESYSTEMS
from virtstore.units import MAX_SIZE


def filesystem_size(kind: str, device: Device) -> int | None:
    """Bytes of the file system that blkid calls `kind`; None where it cannot be told."""
    if known := FILESYSTEMS.get(kind):
        size = known.size(device)
    else:
        size = _size_of_exfat(device) if kind == "exfat" else None
    return size if size is not None and 0 < size <= MAX_SIZE else None


def _size_of_exfat(device: Device) -> int | None:
    head = device.read(0, 0x6D)
    if len(head) < 0x6D or not 9 <= head[0x6C] <= 12:
        return None
    return int.from_bytes(head[0x48:0x50], "little") << head[0x6C]
