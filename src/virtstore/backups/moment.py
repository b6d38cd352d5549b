"""How an image is copied as it is at one moment, decided from what its host says of it.

The agent that is asked for the copy has the last word: it refuses what is not so any more, and then
the next way is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from virtstore.location import within
from virtstore.model import ImageInfo, RootInfo

#: `"unused"`: as it is, since nobody writes to it. `"snapshot"`: its place keeps the moment.
#: `"live"`: the QEMU of the domain that runs on it does.
Way = Literal["unused", "snapshot", "live"]

_VOLUMES: Final = ("lvm", "lvm-thin", "rbd")


def depends_on_its_place(info: ImageInfo) -> bool:
    """Whether it counts if the directory of an image has snapshots."""
    return info.type == "file" and bool(info.in_use) and not info.compression


def ways(
    info: ImageInfo, roots: Iterable[RootInfo], *, snapshots: bool = True, live: bool = False
) -> tuple[Way, ...]:
    """The ways to one moment of an image, the best first. `roots`: of its host, where it depends on
    them. `snapshots`: they may be made, and live copies; `live`: a domain that runs is asked before
    its place is."""
    if not snapshots or info.compression:
        return ("unused",)
    able = info.type in _VOLUMES or _shares_blocks(info.path, roots)
    if not info.in_use:
        # Nothing shows in a volume that somebody began to write to it meanwhile.
        return ("snapshot", "unused") if info.type in _VOLUMES else ("unused",)
    runs = any(use.by == "domain" for use in info.in_use)
    # What QEMU holds back of a container's tables is in no snapshot of its file.
    live_first = runs and (live or info.container is not None)
    found: list[Way] = ["live"] if live_first else []
    found += ["snapshot"] if able else []
    found += ["live"] if runs and not live_first else []
    return (*found, "unused")  # whoever uses it may only read it


def _shares_blocks(path: str, roots: Iterable[RootInfo]) -> bool:
    around = [root for root in roots if within(path, root.path)]
    return max(around, key=lambda root: len(root.path)).snapshots if around else False
