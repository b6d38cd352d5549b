"""An open logical volume: a block device, read and written at offsets.

It is opened by its device number and shown to be the volume that LVM reported by the
device mapper's UUID of it, so that a name which changed hands in between means nothing.
A volume that is to be written is opened with O_EXCL, which the kernel refuses where it
is mounted, in use as swap, or has another device stacked on it.

Sources: open(2) on O_EXCL, the kernel's Documentation/ABI/testing/sysfs-block-dm.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from virtstore.backends.base import Version
from virtstore.backends.device import DeviceImage
from virtstore.backends.lvm.report import Volume
from virtstore.errors import InUse


class VolumeImage(DeviceImage):
    """An active volume's device. `allocated` is what LVM reported when it was opened."""

    def __init__(self, volume: Volume, *, writable: bool = False, exclusive: bool = False) -> None:
        self.volume = volume
        flags = os.O_RDWR if writable else os.O_RDONLY
        super().__init__(_open(volume, flags | (os.O_EXCL if exclusive else 0)))

    @property
    def allocated(self) -> int:
        return self.volume.allocated

    @property
    def version(self) -> Version:
        return Version((self.volume.uuid,))  # its device may be another next time

    @property
    def device_name(self) -> str:
        """What the device mapper calls it now, as `names.of_device`."""
        return _of_device_mapper(self.volume, "name")


def _of_device_mapper(volume: Volume, what: str) -> str:
    """Such as its `name`, or `uuid`. Raises `FileNotFoundError` where it is inactive."""
    major, minor = volume.device
    return Path(f"/sys/dev/block/{major}:{minor}/dm/{what}").read_text().strip()


def _open(volume: Volume, flags: int) -> int:
    major, minor = volume.device
    try:
        fd = os.open(f"/dev/dm-{minor}", flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a device node that its device is gone from
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), volume.name) from None
        if error.errno == errno.EBUSY:
            raise InUse(
                "the kernel says that it is mounted, swap, or part of another device"
            ) from None
        raise
    try:
        uuid = _of_device_mapper(volume, "uuid")
        if os.fstat(fd).st_rdev != os.makedev(major, minor) or uuid != volume.uuid:
            raise FileNotFoundError(errno.ENOENT, "it is inactive since LVM was asked", volume.name)
    except BaseException:
        os.close(fd)
        raise
    return fd
