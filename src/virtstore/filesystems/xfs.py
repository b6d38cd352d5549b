"""XFS, by xfsprogs and the host's kernel: it grows while it is mounted, and cannot shrink.

Growing is: check, grow to an explicit number of blocks, check again. A log to replay (after
a guest's crash) is replayed by mounting, and only then can be checked; apart from that one
that fails its check is refused untouched.

What was seen of the tools (xfsprogs 6.1): `xfs_repair -n` ends with 1 both for damage and for
a log to replay, of which it warns ("valuable metadata changes in a log"); `xfs_growfs -D` with
less than the present size *shrinks*, where the tail is unused, as an experiment ([EXPERIMENTAL],
not for data that matters), so it is only ever given more; a growth whose last allocation
group would be of less than 64 blocks is cut back to the group before it, so that the result
may fall short of what was asked.

Sources: xfs_growfs(8), xfs_repair(8) "Exit status", the kernel's fs/xfs/libxfs/xfs_format.h
(xfs_dsb), Documentation/admin-guide/xfs.rst (nouuid). Host tools needed: xfs_growfs,
xfs_repair, and those of mounted.py.
"""

from __future__ import annotations

import re
import struct
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Error, Unsupported
from virtstore.filesystems import loop, mounted
from virtstore.filesystems.base import Capabilities, Device, Resized, Watch, unwatched
from virtstore.filesystems.bounds import grow_target, require_whole
from virtstore.filesystems.complaints import first_complaint
from virtstore.units import MAX_SIZE

#: A copy of an image has the UUID of the original, which may be mounted.
_MOUNTING: Final = mounted.Mounting("xfs", ("nouuid",))
_MAX_BLOCK_SIZE: Final = 65536

_BY_HAND: Final = "check it by hand (attach the image and run xfs_repair, on a copy if it matters)"


class Superblock(msgspec.Struct, frozen=True):
    block_size: int
    blocks: int
    external_log: bool
    realtime: bool

    @property
    def size(self) -> int:
        return self.blocks * self.block_size


def _cannot_shrink() -> Unsupported:
    return Unsupported(
        "XFS cannot shrink. Make a smaller image, a new file system in it, and copy the files"
        " there (cp -a, or xfsdump and xfsrestore)"
    )


class Xfs:
    types: tuple[str, ...] = ("xfs",)
    capabilities = Capabilities(
        grow=True,
        shrink=False,
        tools=("xfs_growfs", "xfs_repair", *mounted.TOOLS),
        mounted=True,
        why_not=_cannot_shrink,
    )

    def size(self, device: Device) -> int | None:
        """See the contract."""
        superblock = _read_superblock(device)
        return superblock.size if superblock else None

    def minimum(self, device: Device) -> int | None:
        """None: there is none, since it cannot shrink."""
        return None

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract. It takes moments, whatever the size, and is not watched."""
        before = _superblock(device)
        if _target(before, device, size) == before.size:
            return Resized(before.size, changed=False)
        _require_resizable(before)
        with loop.attached(device) as whole:
            _check_before(whole)
            # The log that was replayed may have had a growth in it.
            present = _superblock(device)
            target = _target(present, device, size)
            if target > present.size:
                _grow(whole, target // present.block_size)
            now = _check_after(whole, device)
        return Resized(now.size, changed=now.size != before.size)

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract: always `Unsupported`, unless it is that small already."""
        present = _superblock(device).size
        if size is not None and present <= size:
            _require_resizable(_superblock(device))
            with loop.attached(device) as whole:
                _check_before(whole)
            # The log that was replayed may have had a growth in it.
            present = _superblock(device).size
            if present <= size:
                return Resized(present, changed=False)
        raise _cannot_shrink()


def check_argv(device: Device) -> tuple[str, ...]:
    return ("xfs_repair", "-n", device.path)


def grow_argv(blocks: int) -> tuple[str, ...]:
    return ("xfs_growfs", "-d", "-D", str(blocks), mounted.POINT)


def parse_superblock(raw: bytes) -> Superblock | None:
    """The superblock in a device's first bytes, or None where there is none that can be true."""
    if len(raw) < 56 or raw[:4] != b"XFSB":
        return None
    block_size, blocks, realtime = struct.unpack_from(">IQQ", raw, 4)
    (log_start,) = struct.unpack_from(">Q", raw, 48)
    if not 512 <= block_size <= _MAX_BLOCK_SIZE or block_size & (block_size - 1):
        return None
    if not 0 < blocks <= MAX_SIZE // block_size:
        return None
    return Superblock(block_size, blocks, external_log=log_start == 0, realtime=realtime != 0)


def _read_superblock(device: Device) -> Superblock | None:
    return parse_superblock(device.read(0, 512))


def _superblock(device: Device) -> Superblock:
    superblock = _read_superblock(device)
    if superblock is None:
        raise Corrupt(f"it has no XFS superblock that could be true; {_BY_HAND}")
    require_whole(superblock.size, device)
    return superblock


def _target(superblock: Superblock, device: Device, size: int | None) -> int:
    return grow_target(superblock.size, device, size, superblock.block_size)


def _require_resizable(superblock: Superblock) -> None:
    other = "log" if superblock.external_log else "real-time section" if superblock.realtime else ""
    if other:
        raise Unsupported(
            f"the file system has its {other} on another device, without which it cannot be"
            " mounted; grow it in the guest (xfs_growfs)"
        )


def _check_before(whole: Device) -> None:
    said = mounted.run_check(whole, *check_argv(whole))
    when = ""
    if said.status and b"valuable metadata changes in a log" in said.stdout + said.stderr:
        mounted.run_mounted(whole, _MOUNTING, "true")
        when = ", its log replayed,"
        said = mounted.run_check(whole, *check_argv(whole))
    if re.search(rb"unknown [\w/]+ features", said.stdout + said.stderr):
        raise Unsupported("it was made by newer tools, with features that this host does not know")
    if said.status:
        why = first_complaint(said.stdout + said.stderr, _BANNER)
        raise Corrupt(
            f"the file system fails its check{when} and was not grown ({why}); {_BY_HAND}"
        )


def _grow(whole: Device, blocks: int) -> None:
    said = mounted.run_mounted(whole, _MOUNTING, *grow_argv(blocks))
    if said.status == 0:
        return
    if mounted.run_check(whole, *check_argv(whole)).status == 0:
        raise Error(
            f"xfs_growfs could not grow the file system ({said.complaint}); it passes its check"
        )
    raise Corrupt(
        f"xfs_growfs failed and the file system does not pass its check ({said.complaint});"
        f" {_BY_HAND}"
    )


def _check_after(whole: Device, device: Device) -> Superblock:
    said = mounted.run_check(whole, *check_argv(whole))
    if said.status:
        why = first_complaint(said.stdout + said.stderr, _BANNER)
        raise Corrupt(f"the file system was grown and then failed its check ({why}); {_BY_HAND}")
    return _superblock(device)


#: Lines that `xfs_repair -n` prints whatever is wrong.
_BANNER: Final = re.compile(
    rb"Phase \d|- |ALERT: The filesystem has|ignored because|which may be resolved|No modify flag"
)
