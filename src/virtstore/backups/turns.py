"""Jobs of one target take turns: at the same time they would take each other's room, and the
second would be based on what the first has not finished.

A turn is a lock on a file of this machine's (flock(2)), which ends with the process, however that
ends. The file stays, empty, until the next boot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from virtstore import meeting_place
from virtstore.location import canonical, parse_location


@contextmanager
def turn(target: str, waits: Callable[[], None]) -> Iterator[None]:
    """Have the only job with a target, however its location is spelt; `waits` is called where
    another has to end first."""
    at = parse_location(target)
    place = f"{at.address} {canonical(at.path or '')}"
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32]
    with ExitStack() as stack:
        told = False
        for directory in meeting_place.directories():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            fd = os.open(f"{directory}/backup-{digest}", flags, 0o600)
            stack.callback(os.close, fd)
            told = _lock(fd, waits, told)
        yield


def _lock(fd: int, waits: Callable[[], None], told: bool) -> bool:
    """Wait for a lock. Returns whether it was told that somebody waits."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not told:
            waits()
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    return told
