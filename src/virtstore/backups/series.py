"""The backups in a directory, by the image that they are of.

It is read off one long listing. Nothing else is asked, so thousands of backups cost no more than
that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from virtstore.backups.names import parse
from virtstore.model import Entry, ImageInfo

#: How far the clocks of two hosts may be apart before one of them counts as wrong.
CLOCKS_APART: Final = timedelta(minutes=10)


class Backup(msgspec.Struct, frozen=True):
    """One backup. `made`: the moment that its name says (UTC). `whole`: it is complete, and an
    archive that was not cut; only `verify` tells whether its contents are undamaged. Of an object
    in a bucket the listing tells, which has none but complete ones. `size`: the bytes of its image,
    null where it is not whole, and where it was not looked at: in a bucket all but the newest."""

    path: str
    made: datetime
    size: int | None
    allocated: int
    whole: bool


class BackupSeries(msgspec.Struct, frozen=True):
    """The backups of one image, the newest first. `count`, `newest` and `oldest` are of those that
    are whole, and not dated in the future; `size` is the bytes of the image in the newest of them.
    `allocated`: what all of them take on the host. `late`: the newest is older than was asked."""

    name: str
    count: int
    newest: datetime | None
    oldest: datetime | None
    size: int | None
    allocated: int
    late: bool
    backups: tuple[Backup, ...]


class Backups(msgspec.Struct, frozen=True):
    """What backups are in a directory, by image. `foreign`: the paths of the files that have
    other names."""

    path: str
    host: str
    series: tuple[BackupSeries, ...]
    foreign: tuple[str, ...]


def is_in_future(made: datetime, now: datetime) -> bool:
    """Whether a backup cannot have been made yet: some clock is wrong, or was."""
    return made > now + CLOCKS_APART


def found_in(
    path: str,
    host: str,
    listed: Iterable[Entry | ImageInfo],
    now: datetime,
    max_age: timedelta | None = None,
    unseen: Collection[str] = (),
) -> Backups:
    """The backups in a listing of a directory, of which nothing else is kept. A series is late if
    its newest one is older than `max_age`. `unseen`: the paths of those that were not looked at."""
    backups: dict[str, list[Backup]] = {}
    foreign: list[str] = []
    for entry in listed:
        if entry.type == "directory":
            continue
        name = parse(entry.path)
        if name and isinstance(entry, ImageInfo):
            made = _unseen if entry.path in unseen else _backup
            backups.setdefault(name.name, []).append(made(entry, name.made))
        else:
            foreign.append(entry.path)
    series = (_series(name, backups.pop(name), now, max_age) for name in sorted(backups))
    return Backups(path, host, tuple(series), tuple(sorted(foreign)))


def _backup(info: ImageInfo, made: datetime) -> Backup:
    """Of an archive that was cut the size is not known; what is no archive is none of ours."""
    whole = info.state == "complete" and info.compression == "zstd" and info.size is not None
    return Backup(info.path, made, info.size if whole else None, info.allocated, whole)


def _unseen(info: ImageInfo, made: datetime) -> Backup:
    whole = info.state == "complete" and info.allocated > 0
    return Backup(info.path, made, None, info.allocated, whole)


def _series(
    name: str, backups: list[Backup], now: datetime, max_age: timedelta | None
) -> BackupSeries:
    # A whole one stands before what was left of another attempt at the same moment.
    backups.sort(key=lambda each: (each.made, each.whole), reverse=True)
    real = [each for each in backups if each.whole and not is_in_future(each.made, now)]
    newest = real[0] if real else None
    late = max_age is not None and (newest is None or now - newest.made > max_age)
    return BackupSeries(
        name,
        count=len(real),
        newest=newest.made if newest else None,
        oldest=real[-1].made if real else None,
        size=newest.size if newest else None,
        allocated=sum(each.allocated for each in backups),
        late=late,
        backups=tuple(backups),
    )
