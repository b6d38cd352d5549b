"""The superblock of ext2, ext3 and ext4: the few fields that resizing depends on.

Source: the kernel's Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from virtstore.filesystems.base import Device
from virtstore.units import MAX_SIZE

_OFFSET: Final = 1024
_LENGTH: Final = 1024
_MAGIC: Final = 0xEF53
_MAX_LOG_BLOCK_SIZE: Final = 6  # 64 KiB

_STATE_VALID: Final = 0x1
_STATE_ERROR: Final = 0x2
_COMPAT_HAS_JOURNAL: Final = 0x4
_COMPAT_STABLE_INODES: Final = 0x800
_COMPAT_ORPHAN_FILE: Final = 0x1000
_INCOMPAT_RECOVER: Final = 0x4
_INCOMPAT_64BIT: Final = 0x80
_INCOMPAT_MMP: Final = 0x100
_RO_COMPAT_QUOTA: Final = 0x100
_RO_COMPAT_BIGALLOC: Final = 0x200
_RO_COMPAT_PROJECT: Final = 0x2000


class Superblock(msgspec.Struct, frozen=True):
    """`clean`: unmounted in order, nothing to replay, no error on record. `mmp`: protected
    against being mounted by two hosts. `stable_inodes`: inodes may not be renumbered.
    `fewest_blocks`: with fewer, an inode that the superblock names would get another number."""

    block_size: int
    blocks: int
    clean: bool
    bigalloc: bool
    external_journal: bool
    mmp: bool
    stable_inodes: bool
    fewest_blocks: int

    @property
    def size(self) -> int:
        return self.blocks * self.block_size


def read_superblock(device: Device) -> Superblock | None:
    """The primary superblock; None where there is none, or none that can be true."""
    raw = device.read(_OFFSET, _LENGTH)
    return parse_superblock(raw) if len(raw) == _LENGTH else None


def parse_superblock(raw: bytes) -> Superblock | None:
    """The superblock in 1024 raw bytes, or None."""
    (magic, state) = struct.unpack_from("<HH", raw, 0x38)
    (log_block_size,) = struct.unpack_from("<I", raw, 0x18)
    if magic != _MAGIC or log_block_size > _MAX_LOG_BLOCK_SIZE:
        return None
    (compat, incompat, ro_compat) = struct.unpack_from("<III", raw, 0x5C)
    (journal_inode,) = struct.unpack_from("<I", raw, 0xE0)
    block_size = 1024 << log_block_size
    blocks = _block_count(raw, incompat)
    if not 0 < blocks <= MAX_SIZE // block_size:
        return None
    return Superblock(
        block_size=block_size,
        blocks=blocks,
        clean=state & (_STATE_VALID | _STATE_ERROR) == _STATE_VALID
        and not incompat & _INCOMPAT_RECOVER,
        bigalloc=bool(ro_compat & _RO_COMPAT_BIGALLOC),
        external_journal=bool(compat & _COMPAT_HAS_JOURNAL) and journal_inode == 0,
        mmp=bool(incompat & _INCOMPAT_MMP),
        stable_inodes=bool(compat & _COMPAT_STABLE_INODES),
        fewest_blocks=_blocks_for(raw, max(_named_inodes(raw, compat, ro_compat))),
    )


def _named_inodes(raw: bytes, compat: int, ro_compat: int) -> Iterator[int]:
    """The journal's, the orphan file's and the quotas' inodes. resize2fs renumbers inodes of
    groups that it takes away, and does not tell the superblock."""
    yield 0
    for feature, offset in (
        (compat & _COMPAT_HAS_JOURNAL, 0xE0),
        (compat & _COMPAT_ORPHAN_FILE, 0x280),
        (ro_compat & _RO_COMPAT_QUOTA, 0x240),
        (ro_compat & _RO_COMPAT_QUOTA, 0x244),
        (ro_compat & _RO_COMPAT_PROJECT, 0x26C),
    ):
        if feature:
            (number,) = struct.unpack_from("<I", raw, offset)
            yield number


def _blocks_for(raw: bytes, inode: int) -> int:
    """The blocks up to the end of the group that inode `inode` is in; 0 for the first group,
    which never goes."""
    (first,) = struct.unpack_from("<I", raw, 0x14)
    (blocks_per_group,) = struct.unpack_from("<I", raw, 0x20)
    (inodes_per_group,) = struct.unpack_from("<I", raw, 0x28)
    if inode <= inodes_per_group or not inodes_per_group:
        return 0
    return int(first + -(-inode // inodes_per_group) * blocks_per_group)


def _block_count(raw: bytes, incompat: int) -> int:
    (low,) = struct.unpack_from("<I", raw, 0x04)
    (high,) = struct.unpack_from("<I", raw, 0x150)
    return int(low | high << 32 if incompat & _INCOMPAT_64BIT else low)
