"""What a logical volume holds, by the marks at its beginning: blkid cannot be given a volume within
a disk. The names are blkid's."""

from __future__ import annotations

from typing import Final

from virtstore.errors import Error
from virtstore.filesystems.reading.base import Window

_MARKS: Final = (
    ("ext4", 0x438, b"\x53\xef"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("ntfs", 3, b"NTFS    "),
    ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("vfat", 82, b"FAT32   "),
    ("vfat", 54, b"FAT"),
)


def kind_of(disk: Window) -> str | None:
    """blkid's name of what is there; None where nothing is known."""
    for kind, at, mark in _MARKS:
        try:
            if disk.read(at, len(mark)) == mark:
                return kind
        except Error:  # it ends before
            continue
    return None
