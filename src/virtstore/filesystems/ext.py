"""ext2, ext3 and ext4, by e2fsprogs.

Resizing is: check, resize to an explicit number of blocks, flush, check again. resize2fs
trusts a file system's metadata, so one that fails its check is refused, and refused untouched
where that can be had: one that claims to be clean is checked read-only first, because
`e2fsck -p` would mend what it safely can before it gives up on the rest. One that is not
(a journal to replay, after a guest's crash) is what `-p` is for.

One that has the size asked for already is checked all the same, before growing and before
shrinking: that its superblock says so does not show that it is so. A power cut may have kept a
resize's superblock and lost the rest, a resize2fs that is killed can leave the new size, faults
and the mark of an error, and a journal may have a resize in it.

The tools themselves are in exttools.py. Host tools needed: e2fsck, resize2fs.
"""

from __future__ import annotations

from typing import Final

from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems import exttools
from virtstore.filesystems.base import (
    CHECK_TIMEOUT,
    Capabilities,
    Device,
    Resized,
    Watch,
    unwatched,
)
from virtstore.filesystems.bounds import grow_target, require_whole
from virtstore.filesystems.extsuper import Superblock, read_superblock
from virtstore.seccomp import keeps_length
from virtstore.units import format_size

#: The second time, what described the groups that went is gone too; the third finds blocks.
_MOST_SHRINKS: Final = 3
#: `info` answers without a minimum rather than late.
_INFO_TIMEOUT: Final = 60


class Ext:
    types: tuple[str, ...] = ("ext2", "ext3", "ext4")
    capabilities = Capabilities(
        grow=True, shrink=True, tools=("e2fsck", "resize2fs", "bwrap", "prlimit")
    )

    def size(self, device: Device) -> int | None:
        """See the contract."""
        superblock = read_superblock(device)
        return superblock.size if superblock else None

    def minimum(self, device: Device) -> int | None:
        """See the contract. Not clean: None, for the free blocks are not to be believed. Cut off
        with its image: None, for nothing shrinks that."""
        superblock = read_superblock(device)
        if superblock is None or not superblock.clean or superblock.stable_inodes:
            return None
        if _obstacle(superblock, device) or superblock.size > device.size:
            return None
        try:
            blocks = exttools.estimate(device, timeout=_INFO_TIMEOUT)
        except Error:  # not installed, or it did not end: either way it cannot tell
            return None
        return blocks and _fewest(superblock, blocks) * superblock.block_size

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract."""
        found = _superblock(device)
        as_asked = _blocks_to_grow_to(found, device, size) == found.blocks
        if as_asked and _obstacle(found, device):
            return Resized(found.size, changed=False)  # the tools are kept from it: unchecked
        _require_resizable(found, device)
        if found.clean and exttools.is_whole(device, watch) and as_asked:
            return Resized(found.size, changed=False)
        exttools.preen(device, watch)
        # The journal that was replayed may have had a resize in it.
        now = _superblock(device)
        blocks = _blocks_to_grow_to(now, device, size)
        if blocks == now.blocks:
            exttools.require_whole(device, watch)
        else:
            exttools.resize(device, blocks, watch)
            now = _checked(device, device.size, watch)
        return Resized(now.size, changed=now.blocks != found.blocks)

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract."""
        found = _superblock(device)
        _require_shrinkable(found, device)
        whole = found.clean and exttools.is_whole(device, watch)
        if whole and _blocks_to_shrink_to(found, device, size) == found.blocks:
            return Resized(found.size, changed=False)
        exttools.preen(device, watch)
        now = _superblock(device)
        if size is None:
            now = _shrunk_as_far_as_it_goes(now, device, watch)
        elif (blocks := _blocks_to_shrink_to(now, device, size)) != now.blocks:
            now = _shrunk(now, device, blocks, watch)
        return Resized(now.size, changed=now.blocks != found.blocks)


def _superblock(device: Device) -> Superblock:
    superblock = read_superblock(device)
    if superblock is None:
        raise Corrupt("it has no ext superblock that could be true; e2fsck -b may find another one")
    require_whole(superblock.size, device)
    return superblock


def _blocks_to_grow_to(superblock: Superblock, device: Device, size: int | None) -> int:
    """Those it has where it is as large as asked."""
    target = grow_target(superblock.size, device, size, superblock.block_size)
    return target // superblock.block_size


def _blocks_to_shrink_to(superblock: Superblock, device: Device, size: int | None) -> int:
    """Those it has where it is as small as asked, or as it gets."""
    if size is not None and size >= superblock.size:
        return superblock.blocks
    fewest = exttools.estimate(device, timeout=CHECK_TIMEOUT)
    if fewest is None:
        raise Unsafe("resize2fs cannot tell how small the file system can be made; it was left")
    fewest = _fewest(superblock, fewest)
    blocks = fewest if size is None else size // superblock.block_size
    if blocks < fewest:
        smallest = fewest * superblock.block_size
        raise Unsafe(
            f"what is in the file system does not fit in {size} bytes; the smallest size that"
            f" holds it is {smallest} bytes ({format_size(smallest)})"
        )
    return min(blocks, superblock.blocks)


def _shrunk_as_far_as_it_goes(now: Superblock, device: Device, watch: Watch) -> Superblock:
    """The superblock of what was shrunk. What resize2fs takes for the fewest blocks may be more
    than it needs once it has got there, or too few for moving things about; with an eighth of the
    way left there is room for that."""
    before = now.blocks
    for _ in range(_MOST_SHRINKS):
        fewest = _blocks_to_shrink_to(now, device, None)
        if fewest == now.blocks:
            break
        try:
            now = _shrunk(now, device, fewest, watch)
        except exttools.NotResized:
            if now.blocks < before:
                break
            now = _shrunk(now, device, fewest + (now.blocks - fewest) // 8, watch)
    return now


def _shrunk(now: Superblock, device: Device, blocks: int, watch: Watch) -> Superblock:
    exttools.resize(device, blocks, watch)
    return _checked(device, blocks * now.block_size, watch)


def _fewest(superblock: Superblock, estimated: int) -> int:
    """The fewest blocks that it is shrunk to, where resize2fs would go to `estimated`."""
    return min(max(estimated, superblock.fewest_blocks), superblock.blocks)


def _checked(device: Device, most: int, watch: Watch) -> Superblock:
    """The superblock of what was resized. Raises `Corrupt` for one of more than `most` bytes."""
    exttools.check_resized(device, watch)
    superblock = read_superblock(device)
    if superblock is None or superblock.size > most:
        raise Corrupt(f"the file system was resized and does not end within {most} bytes")
    return superblock


def _require_shrinkable(superblock: Superblock, device: Device) -> None:
    _require_resizable(superblock, device)
    if superblock.stable_inodes:
        raise Unsupported(
            "the file system promises that its inodes keep their numbers (stable_inodes: files"
            " are encrypted with them), so that it can grow and cannot shrink"
        )


def _require_resizable(superblock: Superblock, device: Device) -> None:
    if why := _obstacle(superblock, device):
        raise Unsupported(why)


def _obstacle(superblock: Superblock, device: Device) -> str | None:
    """Why the tools are not to be tried on it, and what to do."""
    if not keeps_length():
        return (
            "resize2fs would set the image's length, and on this processor there is no known"
            " way to keep it from that"
        )
    if superblock.bigalloc:
        return (
            "the file system uses bigalloc, which resize2fs does not vouch for; copy the files"
            " to a new file system instead"
        )
    if superblock.external_journal:
        return (
            "the file system keeps its journal on another device, so that it cannot be checked"
            " by itself; give it an internal one first (tune2fs -O ^has_journal, then -j)"
        )
    if superblock.mmp and device.start:
        return (
            "the file system has multiple-mount protection, which e2fsprogs does not find in a"
            " partition of an image; switch it off in the guest first (tune2fs -O ^mmp)"
        )
    return None
