"""Kernel interfaces that Python's `os` does not have: openat2, renameat2, fallocate's
modes, mincore, cachestat, and reflinks. One function each, errors as `OSError`.

Sources: openat2(2), renameat2(2), fallocate(2), mincore(2), ioctl_ficlone(2), and of cachestat the
kernel's include/uapi/linux/mman.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import re
import struct
from contextlib import suppress
from typing import Final

#: What the kernel says where a file system has no such call, or has it without such a mode: the
#: file systems differ (renameat2(2), fallocate(2), fsync(2)).
CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY})

_SYS_OPENAT2: Final = 437  # the same number on every architecture (syscalls(2): since Linux 5.6)
_SYS_CACHESTAT: Final = 451  # as well (since Linux 6.5)
_RESOLVE_NO_XDEV: Final = 0x01
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RENAME_NOREPLACE: Final = 1
_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_FALLOC_FL_ZERO_RANGE: Final = 0x10
_SYNC_FILE_RANGE_WAIT_BEFORE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
_FICLONE: Final = 0x40049409
_FICLONERANGE: Final = 0x4020940D
_DM_DEV_STATUS: Final = 0xC138FD07
#: struct dm_ioctl: version, size, start of data, targets, open count, flags, event, device, names.
_DM_IOCTL: Final = struct.Struct("=3I3Ii3IQ264x")
#: struct cachestat_range, then struct cachestat: pages that are cached, dirty, being written, …
_CACHESTAT: Final = struct.Struct("=2Q5Q")
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_ABSENT: Final = re.compile(rb"\0+")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.sync_file_range.argtypes = (
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_uint,
)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open `path` below the descriptor `directory`: no symlink, no magic link, no mount
    and no `..` is followed out of it (ELOOP, EXDEV)."""
    how = struct.pack(
        "=QQQ",
        flags | os.O_CLOEXEC,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV,
    )
    fd: int = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_char_p(how),
        ctypes.c_size_t(len(how)),
    )
    _check(fd, path)
    return fd


def reopen(fd: int, flags: int) -> int:
    """A new descriptor, with `flags`, on the very object that `fd` (O_PATH, say) is on."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def rename_noreplace(directory: int, old: str, new: str) -> None:
    """Rename within `directory`; FileExistsError if `new` is there. EINVAL where the file
    system cannot see to that."""
    result = _libc.renameat2(
        directory, os.fsencode(old), directory, os.fsencode(new), _RENAME_NOREPLACE
    )
    _check(result, new)


def allocate(fd: int, offset: int, length: int, *, keep_size: bool = False) -> None:
    """Reserve space; what was a hole reads as zeros, what was data stays."""
    mode = _FALLOC_FL_KEEP_SIZE if keep_size else 0
    _check(_libc.fallocate(fd, mode, offset, length), None)


def zero_range(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeros and keep its space reserved (EOPNOTSUPP where the file
    system cannot)."""
    mode = _FALLOC_FL_ZERO_RANGE | _FALLOC_FL_KEEP_SIZE
    _check(_libc.fallocate(fd, mode, offset, length), None)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeros and give its space back (EOPNOTSUPP where the file system
    cannot)."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    _check(_libc.fallocate(fd, mode, offset, length), None)


def write_out(fd: int, offset: int, length: int, *, wait: bool = False) -> None:
    """Begin to write a range's dirty pages to the disk, or wait until they are written. No
    substitute for fsync (sync_file_range(2)): it only leaves less for fsync to do. But an
    error that it reports is one that fsync on this descriptor will not report again."""
    flags = _SYNC_FILE_RANGE_WAIT_BEFORE if wait else _SYNC_FILE_RANGE_WRITE
    _check(_libc.sync_file_range(fd, offset, length, flags), None)


def device_mapper_opens(device: int) -> int | None:
    """How often a device of the device mapper is open; None for another device, and where one may
    not ask. Source: the kernel's include/uapi/linux/dm-ioctl.h."""
    asked = _DM_IOCTL.pack(4, 0, 0, _DM_IOCTL.size, 0, 0, 0, 0, 0, 0, device)
    try:
        with open("/dev/mapper/control", "rb+", buffering=0) as control:
            answer = fcntl.ioctl(control, _DM_DEV_STATUS, asked)
    except OSError:
        return None
    return int(_DM_IOCTL.unpack(answer)[6])


def sync_filesystem(fd: int) -> None:
    """Return when all of the file system that `fd` is on is on the disk (syncfs(2))."""
    _check(_libc.syncfs(fd), None)


def not_cached(fd: int, offset: int, length: int) -> list[tuple[int, int]]:
    """The parts (offset, length) of a range, in whole pages, that are not in the page cache;
    none where the kernel does not tell us: of a file that we could not write (since 5.2)."""
    begin = offset // mmap.PAGESIZE * mmap.PAGESIZE
    length += offset - begin
    pages = -(-length // mmap.PAGESIZE)
    there = _cached_pages(fd, begin, length)
    if there == 0:
        return [(begin, pages * mmap.PAGESIZE)]
    return [] if there == pages else _absent(fd, begin, length)


def _cached_pages(fd: int, offset: int, length: int) -> int | None:
    """How many pages of a range are in the page cache, in a tenth of the time in which mincore(2)
    tells which; None where the kernel does not say."""
    asked = ctypes.create_string_buffer(_CACHESTAT.pack(offset, length, 0, 0, 0, 0, 0))
    counts = ctypes.byref(asked, 2 * 8)
    if _libc.syscall(_SYS_CACHESTAT, fd, asked, counts, 0) < 0:
        return None
    return int(_CACHESTAT.unpack_from(asked)[2])


def _absent(fd: int, begin: int, length: int) -> list[tuple[int, int]]:
    address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, begin)
    _check(-1 if address == _MAP_FAILED else 0, None)
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    try:
        _check(_libc.mincore(address, length, pages), None)
    finally:
        _libc.munmap(address, length)
    return [
        (begin + run.start() * mmap.PAGESIZE, (run.end() - run.start()) * mmap.PAGESIZE)
        for run in _ABSENT.finditer(pages.raw)
    ]


def keep_freed_memory(largest: int, most: int) -> None:
    """Do not give memory back to the kernel, which would have to clear it before each use: not
    of blocks of up to `largest` bytes, and not before `most` are free (mallopt(3))."""
    with suppress(AttributeError):  # a C library that has no such thing
        _libc.mallopt(_M_MMAP_THRESHOLD, largest)
        _libc.mallopt(_M_TRIM_THRESHOLD, most)


def clone(source: int, target: int) -> None:
    """Make `target` share all of `source`'s blocks (EOPNOTSUPP, EXDEV where that cannot be)."""
    fcntl.ioctl(target, _FICLONE, source)


def clone_range(source: int, offset: int, length: int, target: int, at: int) -> None:
    """Make `target` share whole blocks of `source`, from its byte `offset` on, at its byte `at`
    (EOPNOTSUPP, EXDEV where that cannot be; EINVAL where a number is no multiple of a block)."""
    argument = struct.pack("=qQQQ", source, offset, length, at)
    fcntl.ioctl(target, _FICLONERANGE, argument)


def _check(result: int, path: str | None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
