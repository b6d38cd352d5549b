"""`[[block_device]]`: a whole disk, a partition, an iSCSI LUN, a DRBD device or a ZFS volume, as
one image, whose size is fixed.

The configured path is a link, as a rule (/dev/disk/by-id/…). What is opened is what it leads to
when a session first needs it. A client's path counts if it leads to a device of the same number,
and that is looked at again once the device is open, since links turn."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final, Self

from virtstore.backends.base import (
    Store,
)
from virtstore.backends.block_device.store import BlockDevice
from virtstore.backends.block_device.sysfs import (
    disk_of,
    fact,
    is_volume,
    number_at,
    number_of,
)
from virtstore.backends.block_device.writing import refuse_physical_volume, refuse_read_only
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import Denied, InUse, NotFound
from virtstore.findings import ok, problem, warning
from virtstore.location import canonical, plain_path, unclear, within
from virtstore.model import Access, EntryType, Finding, PlaceInfo

#: Where below /dev anybody may make links.
_OPEN_TO_ALL: Final = ("/dev/shm", "/dev/mqueue")


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
        number = number_at(path) if path.startswith("/dev/") else None
        if number is None or is_volume(number):
            return None
        lasting = (str(link) for link in sorted(Path("/dev/disk/by-id").glob("*")))
        return cls(next((link for link in lasting if number_at(link) == number), path), access)

    def check(self) -> None:
        if why := unclear(self.path) or _unsafe(plain_path(self.path)):
            raise WrongValue("path", f"{self.path!r} is no block device's path: {why}")

    def below(self, path: str) -> str | None:
        """`NUMBER/NAME`: the device that it leads to now, and how it was called."""
        number, name = number_at(self.path), path.rpartition("/")[2]
        named = path in (plain_path(self.path), canonical(self.path))
        if named or (number and path.startswith("/dev/") and number_at(path) == number):
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
        number = number_at(self.path)
        if number is None:
            return
        backing = fact(number, "loop/backing_file") or fact(disk_of(number), "loop/backing_file")
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
        theirs = number_at(other.path)
        if theirs == number:
            why = f"it is configured twice: {other.path} leads to the same device"
        elif theirs and theirs == disk_of(number):
            why = f"it is a partition of {other.path}, which is configured as well"
        elif theirs and disk_of(theirs) == number:
            why = f"{other.path}, which is configured as well, is a partition of it"
        else:
            return
        raise Denied(f"{why}; take one of the two out of the configuration", path=self.path)

    def open(self, anchor: int, inside: str, name: str = "") -> BlockDevice:
        if not name:
            raise NotFound("it is a block device, and holds no images", path=self.path)
        if number_of(os.fstat(anchor)) != inside:
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
    if is_volume(number_of(status)):
        raise Denied(
            "it is a logical volume; configure its volume group ([[volume_group]]), and use it as"
            " /dev/VG/LV",
            path=path,
        )


def _unwritable(path: str) -> Finding | None:
    """The finding for a device that a copy could not be written to, for good; None for others."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        refuse_read_only(fd)
        refuse_physical_volume(fd)
    except Denied as error:
        return problem(f"{path}: {error.message}", 'configure access = "read", or make it writable')
    except InUse as error:
        return warning(f"{path}: {error.message}", "until then, nothing can be copied to it")
    finally:
        os.close(fd)
    return None
