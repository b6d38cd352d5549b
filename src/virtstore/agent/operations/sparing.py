"""A listing for whoever looks after backups, where each look at an object is a request (a bucket).

What a backup is called says of which image it is and when it was made, and the listing says how
long it is. So only the newest of each image is looked at: it tells how large that image is, and of
what it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast

from virtstore.backends.base import Stored
from virtstore.model import ImageInfo, ImageType
from virtstore.names import backup_parts
from virtstore.protocol import Listed

#: Objects in one message.
_BATCH: Final = 400


def newest(found: Sequence[Stored]) -> list[Stored]:
    """The newest complete backup of each image, and all that is no object that could be one."""
    latest: dict[str, tuple[str, Stored]] = {}
    for each in found:
        parts = backup_parts(each.name) if _is_object(each) and each.state == "complete" else None
        if parts and parts[1] > latest.get(parts[0], ("", each))[0]:
            latest[parts[0]] = (parts[1], each)
    return [*(each for _, each in latest.values()), *(s for s in found if not _is_object(s))]


def unseen(parent: str, found: Sequence[Stored]) -> list[Listed]:
    """What is told of objects that are not looked at, in messages."""
    told = [_as_listed(parent, each) for each in found]
    batches = [tuple(told[start : start + _BATCH]) for start in range(0, len(told), _BATCH)]
    return [Listed(images=each, unseen=tuple(image.path for image in each)) for each in batches]


def _is_object(found: Stored) -> bool:
    return found.type not in ("directory", "other")


def _as_listed(parent: str, found: Stored) -> ImageInfo:
    modified = None
    if found.modified is not None:
        modified = datetime.fromtimestamp(found.modified // 10**9, UTC)
    return ImageInfo(
        path=f"{parent.rstrip('/')}/{found.name}",
        host="",
        type=cast(ImageType, found.type),
        size=None,
        allocated=found.allocated,
        modified=modified,
        state=found.state,
    )
