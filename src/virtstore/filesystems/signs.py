"""Signs that an image was cut, and made longer again since: zeros where a copy of something was.

A cut image that has grown again ends where it did, and what was lost reads as zeros; a check of
its file system passes where only files were in that. What still tells are the copies that file
systems and partition tables keep of their beginnings further back: zeros where one of those has
to be mean that nobody has written there what was written there once. Our own `grow` notes what was
cut off (losses.py); these are for images that others made longer.

Sources: the kernel's Documentation/filesystems/ext4 (super.rst, blockgroup.rst); fs/xfs/libxfs
(xfs_format.h, each allocation group begins with a superblock); btrfs(5) for its mirrors. The copy
of NTFS's boot sector tells nothing: ntfsresize does not write one where the new end is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.extsuper import read_superblock
from virtstore.filesystems.superblock import filesystem_size
from virtstore.model import Filesystem
from virtstore.units import format_size

#: Copies that are looked for. Whatever a superblock says, that is all that is read.
_MOST: Final = 256
_LENGTH: Final = 512
_SPARSE_SUPER: Final = 0x1
_SPARSE_SUPER2: Final = 0x200
_BTRFS: Final = (64 << 20, 256 << 30)


def signs_of_a_cut(disk: Device, contents: Contents) -> Iterator[str]:
    """What the file systems and the table of a disk show, as warnings for a person."""
    if contents.table and (offset := contents.table.lost(disk)) is not None:
        yield _told("its partition table (GPT)", offset)
    places = [("its", disk, contents.filesystem)]
    for each in contents.partitions:
        part = disk.part(each.start, each.size)
        places.append((f"partition {each.number}: its", part, each.filesystem))
    for name, part, found in places:
        if found and (lost := _lost(found, part)) is not None:
            yield _told(f"{name} {found.type} file system", part.start + lost)


def _told(what: str, offset: int) -> str:
    return (
        f"{what} keeps a copy of its beginning at byte {offset} ({format_size(offset)}), and there"
        " are zeros: the image may have been cut before that and made longer again, and all that"
        " was from there on, or somewhat before, be lost. Compare it with another copy of the"
        " image, or check its files, before it is relied on"
    )


def _lost(found: Filesystem, part: Device) -> int | None:
    """The first byte where a copy should be and zeros are."""
    copies = _COPIES.get(found.type)
    if copies is None or filesystem_size(found.type, part) is None:
        return None
    try:
        offsets = sorted(islice(copies(part), _MOST))
    except (struct.error, ZeroDivisionError, OverflowError):
        return None
    for offset in offsets:
        held = part.read(offset, _LENGTH)
        if len(held) == _LENGTH and not any(held):
            return offset
    return None


def _ext(part: Device) -> Iterator[int]:
    superblock = read_superblock(part)
    if superblock is None or superblock.bigalloc:
        return
    raw = part.read(1024, 1024)
    first, size = struct.unpack_from("<I8xI", raw, 0x14)
    groups = -(-(superblock.blocks - first) // size)
    for group in _ext_groups(raw, groups):
        yield (first + group * size) * superblock.block_size


def _ext_groups(raw: bytes, groups: int) -> Iterator[int]:
    """The groups, but for the first, that begin with a superblock."""
    compat, _, features = struct.unpack_from("<III", raw, 0x5C)
    if compat & _SPARSE_SUPER2:
        found: Iterable[int] = struct.unpack_from("<II", raw, 0x24C)
    elif features & _SPARSE_SUPER:
        found = [1, *(root**power for root in (3, 5, 7) for power in range(1, 32))]
    else:
        found = range(1, _MOST)
    yield from (group for group in found if 0 < group < groups)


def _xfs(part: Device) -> Iterator[int]:
    (block,) = struct.unpack(">I", part.read(4, 4))
    blocks, groups = struct.unpack(">II", part.read(84, 8))
    for group in range(1, min(groups, _MOST)):
        yield group * blocks * block


def _btrfs(part: Device) -> Iterator[int]:
    size = filesystem_size("btrfs", part) or 0
    yield from (mirror for mirror in _BTRFS if mirror + 4096 <= size)


_COPIES: Final[dict[str, Callable[[Device], Iterator[int]]]] = {
    "ext2": _ext,
    "ext3": _ext,
    "ext4": _ext,
    "xfs": _xfs,
    "btrfs": _btrfs,
}
