"""How a volume that is not finished is told from one that is: names and tags.

Whatever is not under its final name, or is being changed, is marked by a tag, and every
step is one LVM command, which is all or nothing. So what a crash leaves can be read off
the tags, and `mend` finishes or undoes it:

    virtstore.partial          a draft, named NAME.virtstore-partial; under its final name:
                               published, and only to be untagged
    virtstore.draft            beside the former: it is a draft for certain, and not an image that
                               an older version was changing in place
    virtstore.rework           an image that is changed in place, named NAME.virtstore-rework;
                               under its final name: not changed yet, or whole again, and only
                               to be untagged
    virtstore.replaced         an old image that a new one replaces, on its way out, named
                               NAME.virtstore-replaced; it comes back if there is no new one
    virtstore.zero.OFFSET      everything from OFFSET on is to be zeroed (a grown tail), named
                               NAME.virtstore-growing; under its final name, it was in use when
                               it grew (growth.py)
    virtstore.copying.…        a snapshot that only a copy needs, and who makes that copy
    virtstore.removing         a thick snapshot on its way out; once it is split from its
                               origin, what is left of it: to be zeroed, and then removed
    virtstore.lost.NOTE        what an image had lost when it was made longer: not of a crash,
                               and its own for good (filesystems/losses.py)
    virtstore.shrinking        a volume that is changed in place, named NAME.virtstore-shrinking,
                               and …
    virtstore.undo             … the snapshot of what it held, NAME.virtstore-undo: written back
                               unless it is tagged virtstore.removing, too (undo.py)

A name means nothing without its tag: an administrator may call a volume anything.

Source: lvm(8), "Valid names".
"""

from __future__ import annotations

import re
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, WasImage
from virtstore.backends.lvm.report import Volume
from virtstore.backends.owner import Owner
from virtstore.errors import UsageError

PARTIAL: Final = "virtstore.partial"
DRAFT: Final = "virtstore.draft"
REWORK: Final = "virtstore.rework"
REPLACED: Final = "virtstore.replaced"
ZERO: Final = "virtstore.zero."
COPYING: Final = "virtstore.copying."
REMOVING: Final = "virtstore.removing"
SHRINKING: Final = "virtstore.shrinking"
UNDO: Final = "virtstore.undo"
LOST: Final = "virtstore.lost."

REPLACED_SUFFIX: Final = ".virtstore-replaced"
SHRINKING_SUFFIX: Final = ".virtstore-shrinking"
GROWING_SUFFIX: Final = ".virtstore-growing"
UNDO_SUFFIX: Final = ".virtstore-undo"
_SUFFIXES: Final = (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    REPLACED_SUFFIX,
    SHRINKING_SUFFIX,
    GROWING_SUFFIX,
    UNDO_SUFFIX,
)
COPYING_INFIX: Final = ".virtstore-copying-"

_NAME: Final = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.-]{1,100}")


def is_partial(volume: Volume) -> bool:
    """Whether a volume is a draft, and not only called like one."""
    return volume.name.endswith(PARTIAL_SUFFIX) and PARTIAL in volume.tags


def is_reworked(volume: Volume) -> bool:
    """Whether a volume is what is left of an image that is, or was, changed in place."""
    return volume.name.endswith(REWORK_SUFFIX) and REWORK in volume.tags


def was_image(volume: Volume) -> WasImage:
    """Whether a partial volume is what is left of an image."""
    if is_reworked(volume):
        return "yes"
    return "maybe" if is_partial(volume) and DRAFT not in volume.tags else "no"


def is_replaced(volume: Volume) -> bool:
    """Whether a volume is an old image on its way out, and not only called like one."""
    return volume.name.endswith(REPLACED_SUFFIX) and REPLACED in volume.tags


def is_shrinking(volume: Volume) -> bool:
    """Whether a volume is being changed in place under guard, or was when its host stopped."""
    return volume.name.endswith(SHRINKING_SUFFIX) and SHRINKING in volume.tags


def is_growing(volume: Volume) -> bool:
    """Whether a volume's new space is being zeroed, or was when its host stopped."""
    return volume.name.endswith(GROWING_SUFFIX) and zero_from(volume) is not None


def is_undo(volume: Volume) -> bool:
    """Whether a volume is the snapshot that keeps what a guarded one held."""
    return volume.name.endswith(UNDO_SUFFIX) and UNDO in volume.tags


def is_hidden(volume: Volume) -> bool:
    """Whether a volume is neither an image nor going to be one."""
    ours = is_replaced(volume) or is_undo(volume) or copier(volume) is not None
    return ours or is_exception_store(volume)


def is_exception_store(volume: Volume) -> bool:
    """Whether a volume is what is left of a snapshot that was split from its origin."""
    return REMOVING in volume.tags and volume.origin is None


def image_name(volume: Volume) -> str:
    """The final name of the image that a volume is, will be, or was."""
    for suffix, has in (
        (PARTIAL_SUFFIX, is_partial),
        (REWORK_SUFFIX, is_reworked),
        (REPLACED_SUFFIX, is_replaced),
        (SHRINKING_SUFFIX, is_shrinking),
        (GROWING_SUFFIX, is_growing),
        (UNDO_SUFFIX, is_undo),
    ):
        if has(volume):
            return volume.name.removesuffix(suffix)
    return volume.name


def copier(volume: Volume) -> Owner | None:
    """The process for whose copy a snapshot is made; None for any other volume."""
    for tag in volume.tags:
        if tag.startswith(COPYING):
            return Owner.parse(tag.removeprefix(COPYING))
    return None


def is_orphaned(volume: Volume) -> bool:
    """Whether a snapshot was made for a copy that nobody makes any more."""
    owner = copier(volume)
    return owner is not None and not owner.is_alive()


def strange_tags(volume: Volume) -> list[str]:
    """Those tags of a volume that others gave it."""
    return sorted(tag for tag in volume.tags if not tag.startswith("virtstore."))


def zero_from(volume: Volume) -> int | None:
    for tag in volume.tags:
        if tag.startswith(ZERO) and tag.removeprefix(ZERO).isdigit():
            return int(tag.removeprefix(ZERO))
    return None


def lost_tags(volume: Volume) -> list[str]:
    """Those tags of a volume that note what its image had lost."""
    return sorted(tag for tag in volume.tags if tag.startswith(LOST))


def check_name(name: str) -> None:
    """Raises `UsageError` for what cannot be the name of an image."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a logical volume: letters, digits and + _ . - only,"
            " at most 100"
        )
    if name.endswith(_SUFFIXES):
        raise UsageError(f"{name!r} ends like what virtstore calls an image that is not finished")
