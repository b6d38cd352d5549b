"""What the kernel says of a device, which is known by its number: links turn.

Sources: the kernel's ABI documents on sysfs-block, sysfs-block-dm and sysfs-block-loop."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

SYSFS: Final = "/sys/dev/block"
SECTOR: Final = 512


def number_of(status: os.stat_result) -> str:
    """MAJOR:MINOR of a device."""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def number_at(path: str) -> str | None:
    """The number of the block device that a path leads to, if it leads to one."""
    with suppress(OSError, ValueError):
        status = os.stat(path)
        return number_of(status) if stat.S_ISBLK(status.st_mode) else None
    return None


def disk_of(number: str) -> str:
    """The number of the disk that a partition is on; of anything else, its own."""
    place = os.path.realpath(f"{SYSFS}/{number}")
    if not os.path.exists(f"{place}/partition"):
        return number
    return _text_of(f"{os.path.dirname(place)}/dev") or number


def is_volume(number: str) -> bool:
    return fact(number, "dm/uuid").startswith("LVM-")


def fact(number: str, name: str) -> str:
    """What sysfs says of a device, such as `"dm/uuid"`; "" for nothing."""
    return _text_of(f"{SYSFS}/{number}/{name}")


def _text_of(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().rstrip("\n")
    return ""
