"""A file in the making, in a directory that is open: it has its name only once it is whole."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import Final

from virtstore.errors import Corrupt
from virtstore.protocol import FileTold
from virtstore.text import shown

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NewFile:
    """A file in the making in the directory `parent`, which this owns."""

    def __init__(self, parent: int, told: FileTold, name: bytes, begins_at: int) -> None:
        self.path, self.size, self.begins_at = told.path, told.size, begins_at
        self._parent, self._name, self._modified = parent, name, told.modified
        self._made = name_meanwhile()
        self._fd = -1
        try:
            self._fd = os.open(self._made, _NEW, 0o666, dir_fd=parent)
            os.ftruncate(self._fd, told.size)
        except BaseException:
            self.discard()
            raise

    def write(self, offset: int, data: bytes) -> None:
        if offset < 0 or offset + len(data) > self.size:
            raise Corrupt(f"more came of {shown(self.path)} than the file has")
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count

    def publish(self, *, overwrite: bool) -> None:
        try:
            if self._modified:
                os.utime(self._fd, (self._modified, self._modified))
            rename(self._parent, self._made, self._name, overwrite=overwrite)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has no name yet, and let go of it."""
        with suppress(OSError):
            os.unlink(self._made, dir_fd=self._parent)
        for fd in (self._fd, self._parent):
            if fd >= 0:
                os.close(fd)
        self._fd = self._parent = -1


def name_meanwhile() -> str:
    return f".virtstore-{secrets.token_hex(8)}.partial"


def rename(parent: int, made: str, name: bytes, *, overwrite: bool) -> None:
    """Give a file its name. Raises `FileExistsError` where something has it, unless `overwrite`."""
    if overwrite:
        os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    try:
        os.link(made, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        os.unlink(made, dir_fd=parent)
        raise
    except OSError:  # no hard links there (FAT): it was looked for a moment ago
        os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)
    else:
        os.unlink(made, dir_fd=parent)
