"""Btrfs on one device, by btrfs-progs and the host's kernel: grown and shrunk while mounted.

Resizing is: check, resize to an explicit size, check again. The kernel moves what lies behind
the new end and then changes the size in one transaction, so it is the old or the new one
whenever the machine stops. No tool says how far it is.

The kernel tells Btrfs devices apart by UUID, which copies of an image share. While one is
mounted, another fails to be ("File exists"; seen with 6.1) or, with older kernels, can be
taken for it; so where the kernel knows the UUID nothing is tried.

What was seen of the tools (btrfs-progs 6.2, kernel 6.1): less than 256 MiB is refused as
"Invalid argument", growing to it too; a shrink without room ends with "No space left on
device" and the old size, having moved things about; `min-dev-size` counts chunks, not data,
and answers less when chunks were emptied by a shrink: it is where to begin looking, and no
bound; `btrfs check` of one device of several ends with 0.

Mounted with `nodiscard`, so that no holes are made in the image; with `skip_balance`, or a
balance that the guest interrupted would go on; and by the top subvolume, since the default
one is the guest's to choose.

Sources: btrfs-filesystem(8), btrfs-inspect-internal(8), btrfs-check(8), btrfs(5) "Mount
options", the kernel's include/uapi/linux/btrfs_tree.h (btrfs_super_block, btrfs_dev_item) and
fs/btrfs/ioctl.c (btrfs_ioctl_resize). Host tools needed: btrfs, and those of mounted.py.
"""

from __future__ import annotations

import os
import re
import struct
import uuid
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems import loop, mounted
from virtstore.filesystems.base import Capabilities, Device, Resized, Watch, unwatched
from virtstore.filesystems.bounds import grow_target, require_whole
from virtstore.filesystems.complaints import first_complaint
from virtstore.run import Completed
from virtstore.units import MAX_SIZE, format_size

#: The least that the kernel resizes one to (btrfs_ioctl_resize).
SMALLEST: Final = 256 << 20

_MOUNTING: Final = mounted.Mounting("btrfs", ("nodiscard", "skip_balance", "subvolid=5"))
_SUPERBLOCK: Final = 64 << 10
_SEEDING: Final = 1 << 32
#: How close to the smallest size that works a search comes: bytes, or this share of the size.
#: Each try can move much of what there is.
_CLOSE: Final = 16 << 20
_CLOSE_SHARE: Final = 64

_NO_ROOM: Final = b"No space left on device"
_BY_HAND: Final = (
    "look at it by hand (attach the image and run 'btrfs check', on a copy if it matters)"
)


class Superblock(msgspec.Struct, frozen=True):
    """`size`: bytes of this device, whose number is `devid`, that the file system has, in whole
    `sector`s; `used`: bytes with anything in them; `devices`: how many it is spread over."""

    size: int
    used: int
    sector: int
    devid: int
    devices: int
    seed: bool
    uuid: str


class Btrfs:
    types: tuple[str, ...] = ("btrfs",)
    capabilities = Capabilities(
        grow=True, shrink=True, tools=("btrfs", *mounted.TOOLS), mounted=True
    )

    def size(self, device: Device) -> int | None:
        """See the contract: on this device, where it is spread over several."""
        superblock = _read_superblock(device)
        return superblock.size if superblock else None

    def minimum(self, device: Device) -> int | None:
        """None: only a mounted one can tell."""
        return None

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract. It takes moments, whatever the size, and is not watched."""
        before = _superblock(device)
        target = grow_target(before.size, device, size, before.sector)
        if target == before.size:
            return Resized(before.size, changed=False)
        if target < SMALLEST:
            raise Unsupported(
                f"a Btrfs can only be resized to {SMALLEST} bytes ({format_size(SMALLEST)}) or more"
            )
        _require_resizable(before)
        with loop.attached(device) as whole:
            _check_before(whole)
            _refuse_failure(whole, _resize(whole, before, target))
            now = _check_after(whole, device)
        return Resized(now.size, changed=now.size != before.size)

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract. It may take long, and nothing says how far it is."""
        before = _superblock(device)
        if before.size <= (SMALLEST if size is None else size):
            return Resized(before.size, changed=False)
        if size is not None and size < SMALLEST:
            raise Unsafe(
                f"a Btrfs cannot be made smaller than {SMALLEST} bytes ({format_size(SMALLEST)})"
            )
        _require_resizable(before)
        with loop.attached(device) as whole:
            _check_before(whole)
            if size is None:
                _shrink_far(whole, before)
            else:
                _shrink_to(whole, before, size)
            now = _check_after(whole, device)
        _require_shrunk(now, size)
        return Resized(now.size, changed=now.size != before.size)


def check_argv(device: Device) -> tuple[str, ...]:
    return ("btrfs", "check", "--readonly", device.path)


def resize_argv(devid: int, size: int) -> tuple[str, ...]:
    return ("btrfs", "filesystem", "resize", f"{devid}:{size}", mounted.POINT)


def minimum_argv(devid: int) -> tuple[str, ...]:
    return ("btrfs", "inspect-internal", "min-dev-size", "--id", str(devid), mounted.POINT)


def parse_minimum(output: bytes) -> int | None:
    """Bytes in the answer of `btrfs inspect-internal min-dev-size`."""
    match = re.match(rb"(\d{1,19}) bytes", output)
    return int(match[1]) if match else None


def parse_superblock(raw: bytes) -> Superblock | None:
    """The superblock in 4096 raw bytes, or None where there is none that can be true."""
    if len(raw) < 4096 or raw[0x40:0x48] != b"_BHRfS_M":
        return None
    (flags,) = struct.unpack_from("<Q", raw, 0x38)
    (used,) = struct.unpack_from("<Q", raw, 0x78)
    (devices,) = struct.unpack_from("<Q", raw, 0x88)
    (sector,) = struct.unpack_from("<I", raw, 0x90)
    devid, size = struct.unpack_from("<QQ", raw, 0xC9)
    if not 4096 <= sector <= 65536 or sector & (sector - 1) or not 0 < size <= MAX_SIZE:
        return None
    return Superblock(
        *(size, used, sector, devid, devices),
        seed=bool(flags & _SEEDING),
        uuid=str(uuid.UUID(bytes=raw[0x20:0x30])),
    )


def _read_superblock(device: Device) -> Superblock | None:
    return parse_superblock(device.read(_SUPERBLOCK, 4096))


def _superblock(device: Device) -> Superblock:
    superblock = _read_superblock(device)
    if superblock is None:
        raise Corrupt(f"it has no Btrfs superblock that could be true; {_BY_HAND}")
    require_whole(superblock.size, device)
    return superblock


def _require_resizable(superblock: Superblock) -> None:
    if superblock.devices != 1:
        raise Unsupported(
            f"the file system is spread over {superblock.devices} devices, and this is one of"
            " them; resize it in the guest (btrfs filesystem resize)"
        )
    if superblock.seed:
        raise Unsupported(
            "it is a seed device, which Btrfs never changes (btrfstune -S 0 makes it an ordinary"
            " one)"
        )
    if os.path.lexists(f"/sys/fs/btrfs/{superblock.uuid}"):
        raise Unsafe(
            f"this host's kernel has a Btrfs with the same UUID ({superblock.uuid}) mounted,"
            " perhaps a copy of this one, and could take one for the other; unmount that, or"
            " resize this in the guest"
        )


def _resize(whole: Device, superblock: Superblock, size: int) -> Completed:
    return mounted.run_mounted(whole, _MOUNTING, *resize_argv(superblock.devid, size))


def _shrink_to(whole: Device, superblock: Superblock, size: int) -> None:
    if _fits(whole, superblock, size // superblock.sector * superblock.sector):
        return
    _check_unchanged(whole)
    raise Unsafe(
        f"what is in the file system does not fit in {size} bytes ({format_size(size)}); it keeps"
        f" its {superblock.size}. {_advice(_estimate(whole, superblock), size)}"
    )


def _advice(estimate: int, size: int) -> str:
    if estimate > size:
        return (
            f"Btrfs estimates that it could be made as small as {estimate} bytes"
            f" ({format_size(estimate)}); 'minimum' finds out"
        )
    return "Btrfs cannot tell what would do; 'minimum' finds out"


def _shrink_far(whole: Device, superblock: Superblock) -> None:
    """Begin with what Btrfs thinks is least; then halve the distance between what has worked
    and what has not, until that is little."""
    good, bad = superblock.size, max(superblock.used, SMALLEST - 1)
    attempt = _estimate(whole, superblock)
    while good - bad > max(_CLOSE, good // _CLOSE_SHARE):
        if not bad < attempt < good:
            attempt = (good + bad) // 2
        attempt = max(attempt // superblock.sector * superblock.sector, SMALLEST)
        if _fits(whole, superblock, attempt):
            good = attempt
        else:
            bad = attempt


def _fits(whole: Device, superblock: Superblock, size: int) -> bool:
    """Shrink to `size`; false where there is no room for that, and nothing has changed."""
    said = _resize(whole, superblock, size)
    if said.status and _NO_ROOM in said.stderr:
        return False
    _refuse_failure(whole, said)
    return True


def _estimate(whole: Device, superblock: Superblock) -> int:
    """What Btrfs thinks is the least that it needs. Raises `Error` where it does not say."""
    said = mounted.run_mounted(whole, _MOUNTING, *minimum_argv(superblock.devid))
    estimate = parse_minimum(said.stdout) if said.status == 0 else None
    if estimate is None:
        raise Error(f"btrfs does not say how small the file system could be ({said.complaint})")
    return max(estimate, SMALLEST)


def _refuse_failure(whole: Device, said: Completed) -> None:
    if said.status:
        _check_unchanged(whole)
        raise Error(
            f"btrfs could not resize the file system ({first_complaint(said.stderr)}); it"
            " passes its check"
        )


def _check_before(whole: Device) -> None:
    _check(whole, "the file system fails its check and was not resized")


def _check_unchanged(whole: Device) -> None:
    _check(whole, "the file system could not be resized and does not pass its check")


def _check_after(whole: Device, device: Device) -> Superblock:
    _check(whole, "the file system was resized and then failed its check")
    return _superblock(device)


def _check(whole: Device, what: str) -> None:
    said = mounted.run_check(whole, *check_argv(whole))
    if said.status:
        why = first_complaint(said.stderr + said.stdout, _BANNER)
        raise Corrupt(f"{what} ({why}); {_BY_HAND}")


def _require_shrunk(now: Superblock, size: int | None) -> None:
    if size is not None and now.size > size:
        raise Error(f"the file system still has {now.size} bytes, more than the {size} asked for")


#: Lines that `btrfs check` prints whatever is wrong.
_BANNER: Final = re.compile(rb"\[\d/\d\]|Opening filesystem|Checking filesystem|UUID: ")
