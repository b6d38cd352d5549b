"""How a file of a directory is opened, so that nothing else is opened in its place."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from virtstore import linux
from virtstore.backends.files import attributes
from virtstore.backends.files.final_names import MISSING
from virtstore.errors import Denied, NotFound, no_image_but

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device node"),
    (stat.S_ISCHR, "a character device node"),
)


def regular(directory: int, file: str, flags: int) -> int:
    """A descriptor of a regular file. It is looked at before it is opened, since opening a FIFO
    waits and opening a device may do anything. Raises `NotFound`, and `Denied` for anything else,
    and for a file that is not to be changed."""
    try:
        found = linux.open_beneath(directory, file, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in MISSING:
            raise NotFound("no such image") from None
        if error.errno == errno.EXDEV:
            raise Denied("it is a mount of another file system") from None
        raise
    try:
        _refuse_no_image(os.fstat(found).st_mode)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            attributes.refuse_locked(found)
        return linux.reopen(found, flags)
    finally:
        os.close(found)


def _refuse_no_image(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise no_image_but("a directory")
    kind = next((text for test, text in _KINDS if test(mode)), "of an unknown kind")
    remedy = "; write the path that it leads to" if stat.S_ISLNK(mode) else ""
    raise Denied(f"it is {kind}; in a directory only plain files are images{remedy}")
