"""Input and output at offsets of an open descriptor: what files and volumes have in common.

Every call is done whole or raises, moves no file position, and may come from any thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from virtstore import linux
from virtstore.backends.base import Image, PageCache
from virtstore.digest import ZEROS
from virtstore.model import Extent


class DescriptorCache(PageCache):
    """The page cache of what is behind the descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        length = min(length, os.lseek(self._fd, 0, os.SEEK_END) - offset)
        try:
            return linux.not_cached(self._fd, offset, length) if length > 0 else []
        except OSError:  # no matter: reading it will say what is wrong
            return []

    def let_go(self, offset: int, length: int) -> None:
        with suppress(OSError):
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        # The kernel tells an error once: what is swallowed here, fsync would not report again.
        try:
            linux.write_out(self._fd, offset, length, wait=wait)
        except OSError as error:
            if error.errno not in linux.CANNOT:
                raise


def read_from(fd: int, offset: int, length: int) -> bytes:
    """`length` bytes, fewer only at the end."""
    data = os.pread(fd, length, offset)
    while data and len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def extents_of(fd: int) -> Iterator[Extent]:
    """The whole of what `fd` is open on, in order: holes are zeros, all else is data."""
    offset, size = 0, os.lseek(fd, 0, os.SEEK_END)
    while offset < size:
        data = _seek(fd, offset, os.SEEK_DATA, size)
        if data > offset:
            yield Extent(offset, data - offset, "zero")
        hole = _seek(fd, data, os.SEEK_HOLE, size) if data < size else size
        if hole > data:
            yield Extent(data, hole - data, "data")
        offset = hole


def _seek(fd: int, offset: int, whence: int, size: int) -> int:
    try:
        return min(os.lseek(fd, offset, whence), size)
    except OSError as error:
        if error.errno == errno.ENXIO:  # lseek(2): no data behind this offset
            return size
        if error.errno in linux.CANNOT:  # all of it counts as data
            return offset if whence == os.SEEK_DATA else size
        raise


class DescriptorImage(Image):
    """An image behind the descriptor `fd`, which it owns: a part of what `base.Image` asks for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def descriptor(self) -> int:
        return self._fd

    @property
    def cache(self) -> PageCache:
        return DescriptorCache(self._fd)

    @property
    def size(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_END)  # of a block device as well

    def read_at(self, offset: int, length: int) -> bytes:
        return read_from(self._fd, offset, length)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count

    def flush(self) -> None:
        os.fsync(self._fd)

    @contextmanager
    def lend(self) -> Iterator[int]:
        yield self._fd

    def close(self) -> None:
        os.close(self._fd)

    def _write_zeros(self, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            step = min(len(ZEROS), end - offset)
            self.write_at(offset, ZEROS[:step])
            offset += step
