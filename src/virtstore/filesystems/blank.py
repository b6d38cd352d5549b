"""Whether there is anything to recognise on a device at all.

Every mark that blkid knows lies in a device's first 4 MiB or its last one. Where both
read as zeros there is no need to ask it; for holes and for space that was only reserved
the kernel says so without reading (lseek(2), SEEK_DATA).
"""

from __future__ import annotations

import errno
import os
from typing import Final

from virtstore.filesystems.base import Device

_HEAD: Final = 4 << 20  # VMware's mark, the furthest in, is at 2 MiB
_TAIL: Final = 1 << 20  # ZFS's labels, the furthest from the end, begin 512 KiB before it
_PIECE: Final = 64 << 10
_ZEROS: Final = bytes(_PIECE)


def is_blank(device: Device) -> bool:
    """Whether all the places where blkid looks for a mark read as zeros."""
    tail = max(_HEAD, device.size - _TAIL)
    return _is_zero(device, 0, min(_HEAD, device.size)) and _is_zero(device, tail, device.size)


def _is_zero(device: Device, offset: int, end: int) -> bool:
    while (offset := _next_data(device, offset, end)) < end:
        piece = device.read(offset, min(_PIECE, end - offset))
        if not piece:  # the image is shorter than was said
            return True
        if piece != _ZEROS[: len(piece)]:
            return False
        offset += len(piece)
    return True


def _next_data(device: Device, offset: int, end: int) -> int:
    """Where, from `offset`, a byte may be that is not zero; `end` where there is none."""
    if offset >= end:
        return end
    try:
        return os.lseek(device.fd, device.start + offset, os.SEEK_DATA) - device.start
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        if error.errno == errno.EINVAL:  # no such question can be asked of it
            return offset
        raise
