"""The order of a listing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from virtstore.model import Entry, ImageInfo

SortKey = Literal["name", "size", "allocated", "modified"]


def in_order(
    found: Sequence[Entry | ImageInfo], key: SortKey, *, reverse: bool = False
) -> list[Entry | ImageInfo]:
    """The entries of a listing, which come by name, in another order: as `ls` has it, the largest
    and the newest first. Those of which the key is not known come last, either way round."""
    if key == "name":
        return list(reversed(found)) if reverse else list(found)
    known = [(rank, each) for each in found if (rank := _rank(each, key)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=not reverse)
    return [each for _, each in known] + [each for each in found if _rank(each, key) is None]


def _rank(entry: Entry | ImageInfo, key: SortKey) -> float | None:
    if not isinstance(entry, ImageInfo):
        return None
    match key:
        case "size":
            return entry.size
        case "allocated":
            return entry.allocated
        case _:
            return entry.modified.timestamp() if entry.modified else None
