"""An open logical volume: a block device, read and written at offsets.

It is opened by its device number and shown to be the volume that LVM reported by the
device mapper's UUID of it, so that a name which changed hands in between means nothing.
A volume that is to be written is opened with O_EXCL, which the kernel refuses where it
is mounted, in use as swap, or has another device stacked on it.

Sources: open(2) on O_EXCL, fallocate(2) on block devices, the kernel's
Documentation/ABI/testing/sysfs-block-dm.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from virtstore import linux
from virtstore.backends.base import Identity, Version
from virtstore.backends.descriptor import DescriptorImage
from virtstore.backends.lvm_report import Volume
from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import InUse

_BLKZEROOUT: Final = 0x127F
#: Ranges are zeroed in the kernel in steps, between which we can be told to stop.
_STEP: Final = 256 << 20
#: What the kernel's zeroing wants offsets to be a multiple of: no logical block is larger.
_ALIGNMENT: Final = 4096


class VolumeImage(DescriptorImage):
    """An active volume's device. `allocated` is what LVM reported when it was opened."""

    def __init__(self, volume: Volume, *, writable: bool = False, exclusive: bool = False) -> None:
        self.volume = volume
        flags = os.O_RDWR if writable else os.O_RDONLY
        super().__init__(_open(volume, flags | (os.O_EXCL if exclusive else 0)))

    @property
    def allocated(self) -> int:
        return self.volume.allocated

    @property
    def identity(self) -> Identity:
        return os.fstat(self._fd).st_rdev, 0

    @property
    def open_count(self) -> int | None:
        return linux.device_mapper_opens(os.fstat(self._fd).st_rdev)

    @property
    def version(self) -> Version:
        return Version((self.volume.uuid,))  # its device may be another next time

    def zero(self, offset: int, length: int) -> None:
        end = offset + length
        first = min(-(-offset // _ALIGNMENT) * _ALIGNMENT, end)
        last = max(end // _ALIGNMENT * _ALIGNMENT, first)
        self._write_zeros(offset, first - offset)
        for start in range(first, last, _STEP):
            self._zero_blocks(start, min(_STEP, last - start))
        self._write_zeros(last, end - last)

    def zero_data(self, offset: int, length: int) -> None:
        """The same, but what reads as zeros is not written: so a thin volume's unmapped parts
        stay unmapped, and are read without any I/O."""
        end = offset + length
        for start in range(offset, end, CHUNK):
            block = self.read_at(start, min(CHUNK, end - start))
            if block != ZEROS[: len(block)]:
                self.zero(start, len(block))

    def _zero_blocks(self, offset: int, length: int) -> None:
        try:
            linux.zero_range(self._fd, offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENODEV):
                raise
            fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("=QQ", offset, length))


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
        # The file is missing where the device is.
        uuid = Path(f"/sys/dev/block/{major}:{minor}/dm/uuid").read_text().strip()
        if os.fstat(fd).st_rdev != os.makedev(major, minor) or uuid != volume.uuid:
            raise FileNotFoundError(errno.ENOENT, "it is inactive since LVM was asked", volume.name)
    except BaseException:
        os.close(fd)
        raise
    return fd
