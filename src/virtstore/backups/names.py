"""The file name of a backup: `NAME.YYYY-MM-DDTHHMMSSZ.img.zst`, in UTC.

NAME is what the image is called; dots and dates in it mean nothing. What has another name is
foreign: other programs' files, and archives that somebody named by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from virtstore.errors import UsageError
from virtstore.names import backup_parts

_SUFFIX: Final = ".img.zst"


class BackupName(NamedTuple):
    """What the name of a backup says: the `name` of its image, and when it was `made` (UTC, whole
    seconds). `str()` is the file name."""

    name: str
    made: datetime

    def __str__(self) -> str:
        return f"{self.name}.{stamp(self.made)}{_SUFFIX}"


def stamp(moment: datetime) -> str:
    """A moment as file names have it: `2026-11-28T020000Z`. A fraction of a second is cut off."""
    there = moment.astimezone(UTC)
    return f"{there.year:04}-{there:%m-%dT%H%M%SZ}"


def backup_name(name: str, moment: datetime) -> BackupName:
    """The name of a backup of the image `name` as it was at a moment, of any zone. Raises
    `UsageError` for what is no part of a file name."""
    made = BackupName(name, moment.astimezone(UTC).replace(microsecond=0))
    if parse(str(made)) != made:
        raise UsageError(f"{name!r} is no name for a backup: it is empty, or has a / or line break")
    return made


def parse(path: str) -> BackupName | None:
    """What the file name of a path says; None for what is foreign, such as a date that no calendar
    has."""
    found = backup_parts(path.rpartition("/")[2])
    if found is None:
        return None
    name, told = found
    numbers = (told[0:4], told[5:7], told[8:10], told[11:13], told[13:15], told[15:17])
    try:  # strptime takes ten times as long
        year, month, day, hour, minute, second = map(int, numbers)
        made = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # such as February 30th
        return None
    return BackupName(name, made)
