"""What an interrupted operation left in a directory: a draft of something new, which whoever may
make images may go on with or throw away, or an image that was changed in place.

`NAME.virtstore-partial` is a draft and `NAME.virtstore-rework` an image. Older versions called
both by the first of these names; so a draft is marked, too, where the file system has extended
attributes, and one without its mark is taken for what is left of an image.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, WasImage
from virtstore.backends.files.final_names import PUBLISH_SUFFIX, RENAMED_SUFFIX, RETURN_SUFFIX

_DRAFT: Final = "user.virtstore.draft"
_SHARED: Final = b"shared"
_WAS_IMAGE: Final = (REWORK_SUFFIX, RETURN_SUFFIX, RENAMED_SUFFIX)
_SUFFIXES: Final = (*_WAS_IMAGE, PARTIAL_SUFFIX, PUBLISH_SUFFIX)


def names(name: str) -> tuple[str, ...]:
    """The file names that an interrupted operation may have left for `name`: of an image that was
    changed in place, and of a draft; each also of one that was about to get its final name."""
    return tuple(name + suffix for suffix in _SUFFIXES)


def is_named(file: str) -> bool:
    """Whether a file has such a name. What is called like the suffix alone is somebody else's."""
    return file.endswith(_SUFFIXES) and file not in _SUFFIXES


def image_name(file: str) -> str:
    """The final name of an image whose file has such a name."""
    return next(file.removesuffix(suffix) for suffix in _SUFFIXES if file.endswith(suffix))


def was_image(directory: int, file: str) -> WasImage:
    """Whether a partial file is what is left of an image, and no draft."""
    if file.endswith(_WAS_IMAGE):
        return "yes"
    try:
        os.getxattr(f"/proc/self/fd/{directory}/{file}", _DRAFT, follow_symlinks=False)
    except OSError as error:
        # Where nothing can be marked, nothing is known; and what is not there is nobody's.
        told = error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT)
        return "maybe" if told else "no"
    return "no"


def mark_draft(fd: int) -> None:
    """Mark an open file as a draft, whatever it was."""
    with suppress(OSError):
        os.setxattr(fd, _DRAFT, b"")


def mark_shared(fd: int) -> None:
    """Mark an open draft as one whose blocks may be an image's as well: no space is its own."""
    with suppress(OSError):
        os.setxattr(fd, _DRAFT, _SHARED)


def is_shared(fd: int) -> bool:
    """Whether an open draft has that mark."""
    with suppress(OSError):
        return os.getxattr(fd, _DRAFT) == _SHARED
    return False


def unmark_draft(fd: int) -> None:
    """Take that mark away: the file has its final name."""
    with suppress(OSError):
        os.removexattr(fd, _DRAFT)
