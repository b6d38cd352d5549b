"""One operation at a time on an image.

A lock is one byte of a file in a directory that only the agent's user can write to, and that
no other user can keep from being made: which byte, the image's identity says. It is an open
file description lock, so it ends with the process and with every tool that inherited it,
however they end, and leaves nothing behind. Readers share a lock, whoever changes something
has it alone, and nobody waits: the second is told.

Source: fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from blake3 import blake3

from virtstore import meeting_place
from virtstore.errors import Denied, InUse

_F_OFD_GETLK: Final = 36
_F_OFD_SETLK: Final = 37
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid


@contextmanager
def hold(identity: str, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock of an image (see `Store.identity`); gives the lock's descriptor, for a
    tool to inherit. Raises `InUse` at once if another operation has it."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    files: list[int] = []
    try:
        for directory in _directories():
            files.append(_open(directory))
            _lock(files[-1], _byte(identity), kind)
        yield files[0]
    finally:
        for fd in files:
            os.close(fd)


def is_held(identity: str) -> bool:
    """Whether an operation has the lock of an image, which is looked at and not taken."""
    for directory in _directories():
        fd = _open(directory)
        try:
            if _has_lock(fd, _byte(identity)):
                return True
        finally:
            os.close(fd)
    return False


def hold_file(fd: int) -> None:
    """Hold an open file, which nobody else has, for as long as it is open."""
    _lock(fd, 0, fcntl.F_WRLCK)


def is_file_held(fd: int) -> bool:
    """Whether a process holds a file, which this one has opened by itself."""
    return _has_lock(fd, 0)


def directories() -> list[str]:
    """Where the agents of this user meet."""
    return _directories()


def files() -> list[str]:
    """The files that an agent of this user has open as long as it holds a lock."""
    return [f"{directory}/locks" for directory in _directories()]


def _open(directory: str) -> int:
    fd = os.open(f"{directory}/locks", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.fstat(fd).st_uid != os.geteuid():  # from a time when others could write to it
        os.close(fd)
        raise Denied(
            f"{directory}, where locks are kept, has another user's file in it; remove it: rm -r"
            f" {directory}",
            path=directory,
        )
    return fd


def _lock(fd: int, byte: int, kind: int) -> None:
    try:
        fcntl.fcntl(fd, _F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise InUse(
            "another virtstore operation is working on it; try again when it has ended"
        ) from None


def _has_lock(fd: int, byte: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, _F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def _byte(identity: str) -> int:
    digest = blake3(identity.encode(errors="surrogateescape")).digest(length=8)
    return int.from_bytes(digest, "big") >> 2  # within off_t


def _directories() -> list[str]:
    return meeting_place.directories()
