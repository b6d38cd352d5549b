"""Loop devices: for tools that want a block device, or one that begins where a partition does.

The kernel takes a loop device away when the last who has it open closes it (autoclear), so
none is left however we end, and a tool that outlives us keeps the one it works on.

Sources: loop(4), linux/loop.h. Needs root, and the kernel 5.8 or later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from virtstore.errors import Error, Unsupported
from virtstore.filesystems.base import Device

_CTL_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4
#: struct loop_config: descriptor, block size, struct loop_info64, reserved. Of the info only
#: offset, size limit and flags are set.
_CONFIG: Final = struct.Struct("=II 3QQQ IIII 64s64s32s 2Q 8Q")
_TRIES: Final = 20


@contextmanager
def attached(device: Device, *, writable: bool = True) -> Iterator[Device]:
    """A loop device with the contents of `device`, beginning at 0. It can be written to if it is
    `writable`, whatever the device's descriptor is open for. Raises `Unsupported` where we may not
    make one."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    try:
        backing = os.open(device.path, flags | os.O_CLOEXEC)
        try:
            fd = _attach(msgspec.structs.replace(device, fd=backing), flags)
        finally:
            os.close(backing)  # the loop device has it open itself
    except PermissionError:
        raise Unsupported(
            "this needs a loop device, which only root can make: run the agent as root there"
            " (VIRTSTORE_AGENT='sudo virtstore-agent')"
        ) from None
    except FileNotFoundError:
        raise Unsupported("this host has no loop devices (modprobe loop)") from None
    try:
        yield Device(fd, device.size, lock=device.lock, keeps=device.keeps)
        os.fsync(fd)
    finally:
        os.close(fd)


def _attach(device: Device, flags: int) -> int:
    """The descriptor of a loop device; somebody else may take a free one before we do."""
    config = _configuration(device, _READ_ONLY if flags == os.O_RDONLY else 0)
    for _ in range(_TRIES):
        fd = os.open(f"/dev/loop{_free()}", flags | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _CONFIGURE, config)
            return fd
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:
                raise
        except BaseException:
            os.close(fd)
            raise
    raise Error("no loop device could be had; all that are free are taken at once by others")


def _free() -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _CTL_GET_FREE)
    finally:
        os.close(control)


def _configuration(device: Device, flags: int) -> bytes:
    window = (device.start, device.size)
    return _CONFIG.pack(
        *(device.fd, 0, 0, 0, 0, *window, 0, 0, 0, flags | _AUTOCLEAR),
        *(b"", b"", b"", 0, 0),
        *([0] * 8),
    )
