"""`[[block_device]]`: a whole disk, a partition, an iSCSI LUN, a DRBD device or a ZFS volume, as
one image, whose size is fixed.

The configured path is a link, as a rule (/dev/disk/by-id/…). What is opened is what it leads to
when a session first needs it. A client's path counts if it leads to a device of the same number,
and that is looked at again once the device is open, since links turn. A device that is to be
written is held with O_EXCL, which the kernel refuses where it, its disk or a partition of it is
mounted, in use as swap, or part of another device.

A device has no second name that could say "neither old nor new", and nothing is kept on the host.
So the mark lies on the device. With the first byte that changes, its first 128 KiB are replaced by
a text and zeros. What belongs there is written last, and its first block last of all. Boot
sectors, partition tables and superblocks lie there, but for their second copies: so nobody takes
what an interrupted copy leaves for a disk. What was there before is gone from that moment on.

Sources: open(2) on O_EXCL; the kernel's ABI documents on sysfs-block, sysfs-block-dm and
sysfs-block-loop; lvmdevices(8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import ClassVar, Final, Self

from virtstore import linux, run
from virtstore.backends.base import (
    Capabilities,
    Holds,
    Image,
    ImageDraft,
    Look,
    Store,
    Stored,
    Version,
    nothing,
)
from virtstore.backends.device import DeviceImage
from virtstore.backends.in_place import InPlace
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import Denied, InUse, NotFound, Unsupported
from virtstore.findings import ok, problem, warning
from virtstore.location import canonical, plain_path, unclear, within
from virtstore.model import Access, EntryType, Finding, PlaceInfo

_FIXED: Final = (
    "it is a block device of this host: virtstore neither makes nor removes one, nor changes its"
    " size, nor takes a snapshot of it. 'virtstore copy --overwrite' and 'virtstore copy-contents'"
    " write to it; 'virtstore growfs' and 'virtstore shrinkfs' resize what is in it"
)
#: Bytes that are written last. Btrfs has its superblock furthest behind, at 64 KiB.
_FIRST: Final = 128 << 10
_MARK: Final = (
    b"virtstore: a copy to this device was interrupted, and what is on it is neither old nor new."
    b" The same command makes it whole.\n"
)
#: Where below /dev anybody may make links.
_OPEN_TO_ALL: Final = ("/dev/shm", "/dev/mqueue")
_SYSFS: Final = "/sys/dev/block"
_BLKROGET: Final = 0x125E  # linux/fs.h
#: In one of the first four sectors of what LVM took for itself (its format-text label).
_LVM_LABEL: Final = b"LABELONE"
_SECTOR: Final = 512
_PVS: Final = (
    *("lvm", "pvs", "--noheadings", "--separator", ",", "-o", "pv_name,vg_name"),
    *("--config", "devices { scan_lvs=0 }"),
)
_LVM_TIMEOUT: Final = 120


class BlockDeviceRoot(Root, frozen=True):
    """`[[block_device]]`. `path`: the device, or a link to it."""

    section: ClassVar[str] = "block_device"
    listed: ClassVar[EntryType] = "block"
    what: ClassVar[str] = "a block device"
    spelled: ClassVar[str] = "the path of a device in /dev"
    is_image: ClassVar[bool] = True

    path: str
    access: Access = "read"

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        """With the name that it keeps, where udev has given it one."""
        number = _number_of(path) if path.startswith("/dev/") else None
        if number is None or _is_volume(number):
            return None
        lasting = (str(link) for link in sorted(Path("/dev/disk/by-id").glob("*")))
        return cls(next((link for link in lasting if _number_of(link) == number), path), access)

    def check(self) -> None:
        if why := unclear(self.path) or _unsafe(plain_path(self.path)):
            raise WrongValue("path", f"{self.path!r} is no block device's path: {why}")

    def below(self, path: str) -> str | None:
        """`NUMBER/NAME`: the device that it leads to now, and how it was called."""
        number, name = _number_of(self.path), path.rpartition("/")[2]
        named = path in (plain_path(self.path), canonical(self.path))
        if named or (number and path.startswith("/dev/") and _number_of(path) == number):
            return f"{number}/{name}"
        return None

    def address(self, inside: str) -> str:
        return plain_path(self.path)

    def anchor(self, file: str) -> int:
        try:
            node = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(
                f"this configured device is not there: {error.strerror}. See that it is attached,"
                " and what it is called (ls -l /dev/disk/by-id)",
                path=self.path,
            ) from None
        try:
            _refuse_other_kinds(os.fstat(node), self.path)
        except BaseException:
            os.close(node)
            raise
        return node

    def refuse_overlap(self, others: Iterable[Root]) -> None:
        number = _number_of(self.path)
        if number is None:
            return
        backing = _text(number, "loop/backing_file") or _text(_disk(number), "loop/backing_file")
        for other in others:
            if isinstance(other, BlockDeviceRoot):
                self._refuse_same_bytes(number, other)
            elif backing and within(backing, os.path.realpath(other.path)):
                raise Denied(
                    f"it is a loop device of {backing}, which lies in {other.path} and is an image"
                    " there; use that, or take one of the two out of the configuration",
                    path=self.path,
                )

    def _refuse_same_bytes(self, number: str, other: BlockDeviceRoot) -> None:
        theirs = _number_of(other.path)
        if theirs == number:
            why = f"it is configured twice: {other.path} leads to the same device"
        elif theirs and theirs == _disk(number):
            why = f"it is a partition of {other.path}, which is configured as well"
        elif theirs and _disk(theirs) == number:
            why = f"{other.path}, which is configured as well, is a partition of it"
        else:
            return
        raise Denied(f"{why}; take one of the two out of the configuration", path=self.path)

    def open(self, anchor: int, inside: str, name: str = "") -> BlockDevice:
        if not name:
            raise NotFound("it is a block device, and holds no images", path=self.path)
        if _number(os.fstat(anchor)) != inside:
            raise NotFound(
                "its path leads to another device than a moment ago; see where it leads now"
                f" (ls -l {self.path}), and run the command again",
                path=self.path,
            )
        return BlockDevice(anchor, name)

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        found = _unwritable(self.path) if access != "read" else None
        yield found or ok(f"{self.path}: a block device that can be used (access {access})")

    def describe(self, store: Store, access: Access) -> tuple[PlaceInfo, str]:
        found = next(store.scan())
        return PlaceInfo(self.path, access, found.type, found.size, 0), ""


class BlockDevice(Store):
    """One device, under the one `name` that it was asked for by; `node` is an O_PATH descriptor of
    it, which it does not own."""

    capabilities: Capabilities = Capabilities(always_raw=True, fixed=_FIXED, noun="a block device")

    def __init__(self, node: int, name: str) -> None:
        self._node = node
        self._name = name

    def close(self) -> None:
        """See the contract. The device's node belongs to the session."""

    def identity(self, name: str) -> str:
        return f"block:{_number(os.fstat(self._node))}"

    def free(self) -> int:
        return 0

    def scan(self) -> Iterator[Stored]:
        with BlockImage(self._opened(os.O_RDONLY)) as image:
            left = image.marked
            yield Stored(
                name=self._name,
                type="block",
                state="partial" if left else "complete",
                was_image="yes" if left else "no",
                size=image.size,
                allocated=image.size,
                identity=image.identity,
                fixed=_FIXED,
            )

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> BlockImage:
        self._require(name)
        if writable:
            # Nobody has a claim on it. It is not held: the tools that are to work on it claim it
            # themselves (e2fsck, mount).
            os.close(self._claimed())
        image = BlockImage(self._opened(os.O_RDWR if writable else os.O_RDONLY))
        if image.marked != partial:
            image.close()
            raise NotFound("no such image")
        return image

    def require_name(self, name: str) -> None:
        self._require(name)

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> ImageDraft:
        raise Unsupported(_FIXED)

    def rework(self, name: str, before: Callable[[Image], None] = lambda image: None) -> BlockDraft:
        self._require(name)
        draft = BlockDraft(self._claimed())
        if not draft.marked:
            draft.in_place.begin(before)
        return draft

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        raise Unsupported(_FIXED)

    def discard(self, name: str, *, was_image: bool = False) -> None:
        """See the contract. A device has no drafts. What is left of an image stays, since nothing
        is known to be right in its place."""
        if was_image:
            raise Unsupported(_FIXED)

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        """See the contract. All space that a device has is reserved."""
        if sparse:
            raise Unsupported(_FIXED)
        with self.open(name) as image:
            if size > image.size:
                raise Unsupported(_FIXED)

    def shrink(self, name: str, size: int) -> None:
        with self.open(name) as image:
            if size < image.size:
                raise Unsupported(_FIXED)

    def guarded(self, name: str, end: int, contents: str) -> AbstractContextManager[str]:
        """See the contract. Nothing is undone."""
        self._require(name)
        return nullcontext(name)

    def frozen(self, name: str) -> Image:
        raise Unsupported(
            "a block device has no snapshots; 'virtstore copy' without --snapshot copies it while"
            " nobody uses it"
        )

    def _require(self, name: str) -> None:
        if name != self._name:
            raise NotFound("no such image")

    def _opened(self, flags: int) -> int:
        try:
            return linux.reopen(self._node, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise InUse(
                    "the kernel says that it, its disk or a partition of it is mounted, swap, or"
                    " part of another device"
                ) from None
            if error.errno == errno.EMEDIUMTYPE:
                raise Unsupported(
                    "DRBD lets nobody open it here, where it is secondary; use it on the host where"
                    " it is primary"
                ) from None
            if error.errno in (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM):
                raise NotFound(f"the device is gone: {error.strerror}") from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Denied(_why_not(flags)) from None
            raise

    def _claimed(self) -> int:
        """A descriptor to write by. While it is open nobody mounts the device or the like."""
        fd = self._opened(os.O_RDWR | os.O_EXCL)
        try:
            _refuse_read_only(fd)
            _refuse_physical_volume(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd


class BlockImage(DeviceImage):
    """The open device."""

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def marked(self) -> bool:
        """Whether an interrupted copy left it neither old nor new."""
        return os.pread(self._fd, len(_MARK), 0) == _MARK


class BlockDraft(BlockImage, ImageDraft):
    """The device while it is overwritten. What belongs to its beginning is kept in memory from the
    first change to the last. A device that an interrupted copy left has the mark there until this
    is written."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.holds: Holds = "kept"
        self.whole = False
        self.in_place = InPlace(self, self._mark)
        self._first: bytearray | None = None
        self._keeping = threading.Lock()

    def _mark(self) -> None:
        # Kept first: who reads meanwhile finds what was there, and never the mark.
        self._first = first = bytearray(super().read_at(0, _FIRST))
        block = self._logical_block()
        DeviceImage.write_at(self, 0, _MARK.ljust(block, b"\0"))
        self.flush()  # before anything else is another
        DeviceImage.write_at(self, block, bytes(len(first) - block))
        self.flush()

    def read_at(self, offset: int, length: int) -> bytes:
        data = super().read_at(offset, length)
        if self._first is None or offset >= len(self._first):
            return data
        kept = bytes(self._first[offset : offset + len(data)])
        return kept + data[len(kept) :]

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.in_place.lose_name()
        kept = self._keep(offset, bytes(memoryview(data)[: max(_FIRST - offset, 0)]))
        DeviceImage.write_at(self, offset + kept, memoryview(data)[kept:])

    def zero(self, offset: int, length: int) -> None:
        self.in_place.lose_name()
        kept = self._keep(offset, bytes(min(length, max(_FIRST - offset, 0))))
        if length > kept:
            DeviceImage.zero(self, offset + kept, length - kept)

    def _keep(self, offset: int, data: bytes) -> int:
        """Put aside the data that is to be written last. Returns how many bytes that is."""
        with self._keeping:
            if data and self._first is None:
                self._first = bytearray(super().read_at(0, _FIRST))
            if data and self._first is not None:
                self._first[offset : offset + len(data)] = data
        return len(data)

    def finish(self) -> None:
        self.flush()
        self.whole = True

    def note_losses(self, note: str) -> bool:
        return False

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if self._first is not None:
            block = self._logical_block()
            DeviceImage.write_at(self, block, memoryview(self._first)[block:])
            self.flush()
            DeviceImage.write_at(self, 0, memoryview(self._first)[:block])
            self.flush()
            self._first, self.in_place.named = None, True
        self.whole = False

    def _logical_block(self) -> int:
        """The bytes that a disk writes whole or not at all."""
        disk = _disk(_number(os.fstat(self._fd)))
        return int(_text(disk, "queue/logical_block_size") or _SECTOR)


def _unsafe(path: str) -> str | None:
    """Why no root can be called so."""
    if not path.startswith("/dev/"):
        return "it does not begin with /dev/"
    if any(within(path, tree) for tree in _OPEN_TO_ALL):
        return "anybody can make a link there"
    return None


def _refuse_other_kinds(status: os.stat_result, path: str) -> None:
    if not stat.S_ISBLK(status.st_mode):
        raise Denied(
            "it is configured as a block device and is none; configure the device itself, or a"
            " link to it",
            path=path,
        )
    if _is_volume(_number(status)):
        raise Denied(
            "it is a logical volume; configure its volume group ([[volume_group]]), and use it as"
            " /dev/VG/LV",
            path=path,
        )


def _refuse_read_only(fd: int) -> None:
    """Raises `Denied` for a read-only device, which root can open to be written all the same."""
    said = fcntl.ioctl(fd, _BLKROGET, bytes(4))
    if said != bytes(4):
        raise Denied(
            "nothing can be written to it: it is read-only ('blockdev --getro DEVICE' says 1)"
        )


def _refuse_physical_volume(fd: int) -> None:
    """Raises `InUse` where this host's LVM has the device, its disk or a partition of it. One with
    active volumes has a holder; the others only LVM knows."""
    number = _number(os.fstat(fd))
    place = Path(os.path.realpath(f"{_SYSFS}/{number}"))
    parts = [path.parent for path in place.glob("*/partition")]
    starts = [int((part / "start").read_text()) * _SECTOR for part in parts]
    labels = (os.pread(fd, 4 * _SECTOR, start) for start in (0, *starts))
    if not any(_LVM_LABEL in label for label in labels) or run.missing("lvm"):
        return
    ours = {number, _disk(number), *((part / "dev").read_text().strip() for part in parts)}
    for line in run.run(_PVS, timeout=_LVM_TIMEOUT).stdout.decode("utf-8", "replace").splitlines():
        path, _, group = line.strip().partition(",")
        if _number_of(path) in ours:
            raise InUse(
                f"it holds a physical volume of this host's LVM ({group or 'of no volume group'})."
                " If that is a guest's, keep this host's LVM from it (lvmdevices(8), or"
                " global_filter in lvm.conf)"
            )


def _unwritable(path: str) -> Finding | None:
    """The finding for a device that a copy could not be written to, for good; None for others."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _refuse_read_only(fd)
        _refuse_physical_volume(fd)
    except Denied as error:
        return problem(f"{path}: {error.message}", 'configure access = "read", or make it writable')
    except InUse as error:
        return warning(f"{path}: {error.message}", "until then, nothing can be copied to it")
    finally:
        os.close(fd)
    return None


def _why_not(flags: int) -> str:
    doing = "read" if flags & os.O_ACCMODE == os.O_RDONLY else "write to"
    return (
        f"this host does not let the agent {doing} it; let the agent run as root"
        " (VIRTSTORE_AGENT='sudo virtstore-agent'), or give its user the device (a udev rule)"
    )


def _number(status: os.stat_result) -> str:
    """MAJOR:MINOR of a device."""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _number_of(path: str) -> str | None:
    """The number of the block device that a path leads to, if it leads to one."""
    with suppress(OSError, ValueError):
        status = os.stat(path)
        return _number(status) if stat.S_ISBLK(status.st_mode) else None
    return None


def _disk(number: str) -> str:
    """The number of the disk that a partition is on; of anything else, its own."""
    place = os.path.realpath(f"{_SYSFS}/{number}")
    if not os.path.exists(f"{place}/partition"):
        return number
    return _text_of(f"{os.path.dirname(place)}/dev") or number


def _is_volume(number: str) -> bool:
    return _text(number, "dm/uuid").startswith("LVM-")


def _text(number: str, fact: str) -> str:
    """What sysfs says of a device, "" for nothing."""
    return _text_of(f"{_SYSFS}/{number}/{fact}")


def _text_of(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().rstrip("\n")
    return ""
