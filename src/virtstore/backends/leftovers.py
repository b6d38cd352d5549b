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
from virtstore.backends.final_names import PUBLISH_SUFFIX, RETURN_SUFFIX

_DRAFT: Final = "user.virtstore.draft"
_SUFFIXES: Final = (REWORK_SUFFIX, RETURN_SUFFIX, PARTIAL_SUFFIX, PUBLISH_SUFFIX)


def names(name: str) -> tuple[str, ...]:
    """What may be left of `name`: of an image, also on its way back to that name, and of a draft,
    also on its way there."""
    return tuple(name + suffix for suffix in _SUFFIXES)


def is_named(file: str) -> bool:
    """Whether it is called like what is left."""
    return file.endswith(_SUFFIXES)


def image_name(file: str) -> str:
    """The final name of what is left."""
    return next(file.removesuffix(suffix) for suffix in _SUFFIXES if file.endswith(suffix))


def was_image(directory: int, file: str) -> WasImage:
    """Whether something partial is what is left of an image."""
    if file.endswith((REWORK_SUFFIX, RETURN_SUFFIX)):
        return "yes"
    try:
        os.getxattr(f"/proc/self/fd/{directory}/{file}", _DRAFT, follow_symlinks=False)
    except OSError as error:
        # Where nothing can be marked, nothing is known; and what is not there is nobody's.
        told = error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT)
        return "maybe" if told else "no"
    return "no"


def mark_draft(fd: int) -> None:
    """It is one, whatever it was."""
    with suppress(OSError):
        os.setxattr(fd, _DRAFT, b"")


def unmark_draft(fd: int) -> None:
    """It has its final name."""
    with suppress(OSError):
        os.removexattr(fd, _DRAFT)
