"""An open block device as an image: what volumes and devices of the administrator's have in common.

Source: fallocate(2) on block devices.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final

from virtstore import linux
from virtstore.backends.base import Identity
from virtstore.backends.descriptor import DescriptorImage
from virtstore.digest import CHUNK, ZEROS

_BLKZEROOUT: Final = 0x127F
#: Ranges are zeroed in the kernel in steps, between which we can be told to stop.
_STEP: Final = 256 << 20
#: What the kernel's zeroing wants offsets to be a multiple of: no logical block is larger.
_ALIGNMENT: Final = 4096


class DeviceImage(DescriptorImage):
    """An open block device, known by its number."""

    @property
    def identity(self) -> Identity:
        return os.fstat(self._fd).st_rdev, 0

    @property
    def open_count(self) -> int | None:
        """How often it is open, where the device mapper counts: volumes, multipath, LUKS and the
        like; None for other devices."""
        return linux.device_mapper_opens(os.fstat(self._fd).st_rdev)

    def zero(self, offset: int, length: int) -> None:
        end = offset + length
        first = min(-(-offset // _ALIGNMENT) * _ALIGNMENT, end)
        last = max(end // _ALIGNMENT * _ALIGNMENT, first)
        self._write_zeros(offset, first - offset)
        for start in range(first, last, _STEP):
            self._zero_blocks(start, min(_STEP, last - start))
        self._write_zeros(last, end - last)

    def zero_data(self, offset: int, length: int) -> None:
        """Zero a range, but write only where it is not zero. So a thin volume's unmapped parts stay
        unmapped, and are read without any I/O."""
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
