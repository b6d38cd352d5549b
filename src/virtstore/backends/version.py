"""Which state of an image it was that somebody read, and what shows that it is another now.

Size and time of modification (mtime) tell of contents. The time of change (ctime) tells of
anything, a new owner, mode, name or label too; but whoever writes and then sets the mtime back
shows there only. So it is no proof, but a reason to look at the contents again.

Times move in ticks of the kernel's clock, and a write through a mapping shows only when it finds
its page clean. So a version that later ones are held against is taken when what was written is
flushed, and in a later tick than the last change (`settled`).

Sources: inode(7), "Timestamp fields"; the kernel's Documentation/filesystems/multigrain-ts.rst.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from virtstore.backends.base import Readable, Version

#: Seconds that a tick may have: on file systems with whole seconds, and FAT's two.
_COARSE: Final = 2.0
_TICK: Final = 0.02


def of_status(status: os.stat_result) -> Version:
    return Version(
        (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def settled(image: Readable) -> Version:
    """The version of an image. Waits until a later write is sure to make another version of it."""
    if not image.version.changed:
        return image.version
    with suppress(OSError):  # then reading will say what is wrong
        image.flush()
    version = image.version
    changed = max(each.changed for each in (version, *version.beneath))
    whole = changed % 10**9 == 0 and version.modified % 10**9 == 0
    # The clock that gives files their times lags behind by up to a tick.
    wait = _COARSE + _TICK if whole else _TICK
    left = (changed - time.time_ns()) / 10**9 + wait
    if 0 < left <= wait:
        time.sleep(left)
        return image.version
    return version


def written(before: Version, now: Version) -> str | None:
    """What shows that somebody wrote to an image, or put another in its place, in words; None if
    nothing does."""
    if now.identity != before.identity:
        return "another file has its name"
    if now.size != before.size:
        return f"its size changed from {before.size} to {now.size} bytes"
    if now.modified != before.modified:
        then, after = _moment(before.modified), _moment(now.modified)
        return f"its time of modification changed from {then} to {after}"
    for under, now_under in zip(before.beneath, now.beneath, strict=False):
        if seen := written(under, now_under):
            return f"of an image that it lies over: {seen}"
    return None


def touched(before: Version, now: Version) -> bool:
    """Whether anything of an image was changed, its contents maybe."""
    pairs = zip((before, *before.beneath), (now, *now.beneath), strict=False)
    return any(then.changed != after.changed for then, after in pairs)


def _moment(nanoseconds: int) -> str:
    whole, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
