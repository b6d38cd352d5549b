"""The names that an image needs while it is worked on, and who has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX
from virtstore.backends.lvm.marks import (
    COPYING_INFIX,
    GROWING_SUFFIX,
    REPLACED_SUFFIX,
    SHRINKING_SUFFIX,
    UNDO_SUFFIX,
    image_name,
    is_growing,
    is_partial,
    is_replaced,
    is_reworked,
    is_shrinking,
)
from virtstore.backends.lvm.report import Volume
from virtstore.backends.lvm.volumes import Volumes
from virtstore.errors import Exists, InUse, UsageError

#: Characters that a device's name has at the most (linux/dm-ioctl.h, DM_NAME_LEN).
_LONGEST: Final = 127

#: What a snapshot that a copy is made from is called behind its origin's name, with the longest
#: process id (proc(5), pid_max).
COPYING_SUFFIX: Final = f"{COPYING_INFIX}4194304"

_ALL: Final = (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    REPLACED_SUFFIX,
    GROWING_SUFFIX,
    SHRINKING_SUFFIX,
    UNDO_SUFFIX,
    COPYING_SUFFIX,
)


def refuse_too_long(group: str, name: str, suffixes: Iterable[str] = _ALL) -> None:
    """Raises `UsageError` where a volume's name with one of these suffixes would be too long for
    its device. LVM finds that half-way only, and wants it mended by hand."""
    for suffix in suffixes:
        if (over := _device_length(group, name + suffix) - _LONGEST) > 0:
            raise UsageError(
                f"its name is too long, by {over} characters: while it is worked on it may be"
                f" called {name}{suffix}, and the name of its device, in which each - counts"
                f" twice, has at most {_LONGEST}; choose a shorter name, or rename it (lvrename)"
            )


def _device_length(group: str, name: str) -> int:
    """Bytes of the device mapper's name for the larger layer of a volume that has a snapshot."""
    return len(f"{of_device(group, name)}-real")


def of_device(group: str, name: str) -> str:
    """What LVM has the device mapper call a volume of that name."""
    return "-".join(part.replace("-", "--") for part in (group, name))


def refuse_taken(volumes: Volumes, name: str) -> None:
    """Raises where a name that is needed on the way is taken: `Exists` by a volume that is none of
    ours, `InUse` by the image itself or by one that it replaced."""
    suffixes = [PARTIAL_SUFFIX, REWORK_SUFFIX, SHRINKING_SUFFIX, GROWING_SUFFIX, UNDO_SUFFIX]
    if volumes.find(name):
        suffixes.append(REPLACED_SUFFIX)
    for found in volumes.all():
        if found.name not in [name + suffix for suffix in suffixes]:
            continue
        if is_partial(found) or is_reworked(found):
            continue
        if is_replaced(found):
            raise InUse(f"somebody still has what {name} replaced open; try again later")
        if is_unfinished(found):
            raise being_changed(found)
        raise Exists(
            f"{found.name} is in the way: virtstore needs that name while it works on {name},"
            " and did not make that volume; rename it"
        )


def hidden(volumes: Volumes, name: str) -> Volume | None:
    """The volume that is to have this name back; None where there is none."""
    ours = (v for v in volumes.all() if is_growing(v) or is_shrinking(v))
    return next((v for v in ours if image_name(v) == name), None)


def is_unfinished(volume: Volume) -> bool:
    """Whether a volume is an image, or will be one, under another name than its own."""
    left = is_partial(volume) or is_reworked(volume)
    return left or is_shrinking(volume) or is_growing(volume)


def being_changed(volume: Volume) -> InUse:
    return InUse(
        f"its size is being changed, under the name {volume.name}, which somebody has open; it"
        " has its own name again once nobody has"
    )
