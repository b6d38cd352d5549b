"""What a plain file is marked with (xattr(7)), where its file system has extended attributes.

A file keeps its attributes when others write something else into it, so each mark names what it
speaks of. virtstore copies none of them along with a file's other attributes (attributes.py).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from virtstore import linux

#: A resize was begun. The mark names the contents that it moves, and the byte where they ended.
_SHRINKING: Final = "user.virtstore.shrinking"
#: What it had lost when it was made longer (see `base.Store.losses`).
LOST: Final = "user.virtstore.lost"


def mark(fd: int, end: int, contents: str) -> None:
    """Note that the contents known as `contents`, which end at byte `end`, are being moved."""
    with suppress(OSError):  # not every file system has extended attributes
        os.setxattr(fd, _SHRINKING, f"{end} {contents}".encode())


def marked(fd: int, contents: str) -> int:
    """The end that `mark` noted for these contents; 0 if it noted none."""
    try:
        end, _, noted = os.getxattr(fd, _SHRINKING).partition(b" ")
    except OSError:
        return 0
    return int(end) if end.isdigit() and noted == contents.encode() else 0


def unmark(fd: int) -> bool:
    """Take the note of `mark` away. Whether there was one."""
    return _remove(fd, _SHRINKING)


def losses(directory: int, file: str) -> str:
    """The note of losses that a file has; "" for none."""
    try:
        path = f"/proc/self/fd/{directory}/{file}"
        return os.getxattr(path, LOST, follow_symlinks=False).decode("ascii", "replace")
    except OSError:
        return ""


def note_losses(fd: int, note: str) -> bool:
    """Give a file this note of losses; "" takes it away. Whether the file system can keep one."""
    if not note:
        _remove(fd, LOST)
        return True
    try:
        os.setxattr(fd, LOST, note.encode())
    except OSError:
        return False
    return True


def _remove(fd: int, name: str) -> bool:
    try:
        os.removexattr(fd, name)
    except OSError as error:
        if error.errno not in linux.CANNOT | {errno.ENODATA}:
            raise
        return False
    return True
