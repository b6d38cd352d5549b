"""What the file system of a directory cannot do, found by trying it on a file that no listing
shows. What is done instead: docs/design.md, "File systems that can less".
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from virtstore import linux
from virtstore.backends.files import final_names

_MODE: Final = 0o600
_HOLE: Final = 1 << 20


def lacking(directory: int) -> tuple[str, ...]:
    """The words for what is lacking: of new names, or a key of `_TRIALS`. Nothing where nothing can
    be made, as in a file system that is mounted read-only."""
    with suppress(OSError), final_names.trial(directory) as fd:
        way = final_names.way_to_new(directory)
        lacks = {"rename without replacing": way != "rename", "new names": way is None}
        lacks |= {what: not _works(try_it, directory, fd) for what, try_it in _TRIALS.items()}
        return tuple(what for what, missing in lacks.items() if missing)
    return ()


def _works(try_it: Callable[[int, int], object], directory: int, fd: int) -> bool:
    try:
        return try_it(directory, fd) is not False
    except OSError:
        return False


def _tells_holes(directory: int, fd: int) -> bool:
    os.ftruncate(fd, _HOLE)
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:  # ENXIO: no data
        return True
    return False


def _keeps_modes(directory: int, fd: int) -> bool:
    os.fchmod(fd, _MODE)
    return os.fstat(fd).st_mode & 0o777 == _MODE


def _makes_nameless(directory: int, fd: int) -> None:
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    os.close(os.open(f"/proc/self/fd/{directory}", flags, _MODE))


#: Each is given the directory and a file in it, and raises OSError or gives False where the file
#: system cannot do that. Holes come first: later ones fill the file.
_TRIALS: Final[dict[str, Callable[[int, int], object]]] = {
    "holes": _tells_holes,
    "reserved space": lambda directory, fd: linux.allocate(fd, 0, _HOLE),
    "zeroing": lambda directory, fd: linux.zero_range(fd, 0, _HOLE),
    "files without a name": _makes_nameless,
    "extended attributes": lambda directory, fd: os.setxattr(fd, "user.virtstore.trial", b"1"),
    "locks": lambda directory, fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "flushing of directories": lambda directory, fd: os.fsync(directory),
    "file modes": _keeps_modes,
}
