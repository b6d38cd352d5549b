"""What an image's store itself knows of who has it open: for LVM how often, and not by whom; for
Ceph which of its clients, on whatever host.

A count is the only sign of whom the kernel shows nowhere else: a target of iSCSI or NVMe, a process
in another container, one that closed what it has mapped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Final

from virtstore.agent.evidence import Use
from virtstore.backends.base import Identity, Image
from virtstore.model import InUse

#: It may be udev's. Whoever it is, nothing tells that he only reads.
_OPEN: Final = Use(
    InUse("open-count", "the device is open; nothing more is known"), writes=True, passing=True
)


#: Seconds in which a program is done that only looks, or changes what belongs to an image.
_PASSING: Final = 2.0
#: When a client was first seen with an image open.
_seen: dict[str, float] = {}


class Counted:
    """What the stores count when they are asked, of each image's watchers once."""

    def __init__(self) -> None:
        self._watchers: dict[Identity, Sequence[str] | None] = {}

    def speaks_for(self, image: Image) -> bool:
        return image.open_count is not None or self._watchers_of(image) is not None

    def gather(self, images: Sequence[Image]) -> Iterator[tuple[Identity, Use]]:
        for image in images:
            yield from repeat((image.identity, _OPEN), image.open_count or 0)
            for watcher in self._watchers_of(image) or ():
                since = _seen.setdefault(watcher, time.monotonic())
                passing = time.monotonic() - since < _PASSING
                yield image.identity, Use(InUse("watcher", watcher), writes=True, passing=passing)

    def _watchers_of(self, image: Image) -> Sequence[str] | None:
        if image.identity not in self._watchers:
            self._watchers[image.identity] = image.watchers
        return self._watchers[image.identity]


look = Counted
