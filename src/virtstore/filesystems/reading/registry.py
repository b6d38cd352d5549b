"""Which file systems files can be read from, by blkid's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from virtstore.errors import Unsupported
from virtstore.filesystems.reading import btrfs, ext, fat, ntfs, xfs
from virtstore.filesystems.reading.base import Reader, Window, soundness

_READERS: Final[dict[str, Callable[[Window], Reader]]] = {
    **dict.fromkeys(ext.TYPES, ext.ExtReader),
    **dict.fromkeys(xfs.TYPES, xfs.XfsReader),
    **dict.fromkeys(btrfs.TYPES, btrfs.BtrfsReader),
    **dict.fromkeys(fat.TYPES, fat.FatReader),
    **dict.fromkeys(ntfs.TYPES, ntfs.NtfsReader),
}
READABLE: Final = frozenset(_READERS)
_INSTEAD: Final = {
    "crypto_LUKS": "it is encrypted (LUKS), and only the guest, or whoever has its key, reads it",
    "BitLocker": "it is encrypted (BitLocker), and only the guest reads it",
    "swap": "it is swap space, which holds no files",
}


def open_reader(kind: str, disk: Window) -> Reader:
    """A reader of a file system of blkid's type `kind`. Raises `Unsupported` and `Corrupt`."""
    if kind not in _READERS:
        raise Unsupported(why_not(kind))
    with soundness():
        return _READERS[kind](disk)


def why_not(kind: str) -> str:
    """Why no files are read from what blkid calls so."""
    return _INSTEAD.get(
        kind,
        f"its file system is {kind}, and files are read from {', '.join(sorted(READABLE))} only;"
        " restore the image, and let a guest read it",
    )
