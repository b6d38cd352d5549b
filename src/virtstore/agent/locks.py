"""One operation at a time on an image.

A lock is one byte of a file in a directory that only the agent's user can write to: which
byte, the image's identity says. It is an open file description lock, so it ends with the
process and with every tool that inherited it, however they end, and leaves nothing behind.
Readers share a lock, whoever changes something has it alone, and nobody waits: the second
is told.

Source: fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from blake3 import blake3

from virtstore.errors import Denied, InUse

_F_OFD_SETLK: Final = 37
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid


@contextmanager
def hold(identity: str, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock of an image (see `Store.identity`); gives the lock's descriptor, for a
    tool to inherit. Raises `InUse` at once if another operation has it."""
    fd = os.open(f"{_directory()}/locks", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _lock(fd, _byte(identity), fcntl.F_RDLCK if shared else fcntl.F_WRLCK)
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, byte: int, kind: int) -> None:
    try:
        fcntl.fcntl(fd, _F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise InUse(
            "another virtstore operation is working on it; try again when it has ended"
        ) from None


def _byte(identity: str) -> int:
    digest = blake3(identity.encode(errors="surrogateescape")).digest(length=8)
    return int.from_bytes(digest, "big") >> 2  # within off_t


def _directory() -> str:
    """The directory of the locks. All of a user's agents must meet in one place, whatever
    their environment says and whether or not somebody is logged in: so not /run/user."""
    user = os.geteuid()
    path = "/run/virtstore" if user == 0 else f"/run/lock/virtstore-{user}"
    if not os.access(os.path.dirname(path), os.W_OK):
        path = f"/tmp/virtstore-{user}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        status = os.stat(path, follow_symlinks=False)
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == user
        if not ours or status.st_mode & 0o022:
            raise Denied(
                f"{path}, where locks are kept, is not ours alone; remove it", path=path
            ) from None
    return path
