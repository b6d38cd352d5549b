"""Removing the backups that no rule keeps.

What is decided of a listing is done a while later, a backup at a time, by `delete`, which looks
for itself whether it may. A backup that somebody reads stays. Of each image the newest backup that
is to stay is looked at once more before the first one goes: somebody may have removed it
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from msgspec.structs import replace

from virtstore.backups.retention import (
    Decision,
    Keep,
    KeepReason,
    Pruned,
    PrunedBackup,
    PrunedSeries,
    decide,
)
from virtstore.backups.series import Backup, Backups, found_in, is_in_future
from virtstore.errors import Denied, InUse, NotFound, Unsafe
from virtstore.model import Entry, ImageInfo

_ADVICE: Final = (
    "; who may only add backups cannot prune: that is done on the backup host itself, by a timer"
    " there that runs 'virtstore prune'"
)


class Work(NamedTuple):
    """`look` lists what is at a path, `remove` deletes it, each as `Host` does. `told` gets the
    bytes that are dealt with, and those that are to be."""

    look: Callable[[str], Sequence[Entry | ImageInfo]]
    remove: Callable[[str], object]
    told: Callable[[int, int], None]
    now: datetime
    dry_run: bool


def only(found: Backups, images: Sequence[str]) -> Backups:
    """The backups of these images; without any, all. Raises `NotFound` for one that has none."""
    known = {each.name for each in found.series}
    for name in images:
        if name not in known:
            told = f"there is no backup of {name!r}; 'virtstore backups' shows what there is"
            raise NotFound(told, host=found.host, path=found.path)
    series = (each for each in found.series if not images or each.name in images)
    return replace(found, series=tuple(series))


def prune(found: Backups, keep: Keep, work: Work) -> Pruned:
    """Remove what the rules do not keep."""
    decided = [(series.name, decide(series.backups, keep, work.now)) for series in found.series]
    total = sum(_to_be_freed(decisions) for _, decisions in decided)
    series, done = [], 0
    for name, decisions in decided:
        series.append(PrunedSeries(name, carry_out(work, decisions)))
        done += _to_be_freed(decisions)
        work.told(done, total)
    gone = [each for one in series for each in one.backups if each.removed]
    freed = sum(each.allocated for each in gone)
    changed = bool(gone) and not work.dry_run
    return Pruned(found.path, found.host, changed, freed, work.dry_run, tuple(series))


def _to_be_freed(decisions: Iterable[Decision]) -> int:
    return sum(each.backup.allocated for each in decisions if not each.reasons)


def carry_out(work: Work, decisions: Sequence[Decision]) -> tuple[PrunedBackup, ...]:
    """Remove what is to go of one image, the oldest first."""
    if not all(each.reasons for each in decisions):
        _check_newest(work, decisions)
    done = [_dealt_with(work, each) for each in reversed(decisions)]
    return tuple(reversed(done))


def _check_newest(work: Work, decisions: Sequence[Decision]) -> None:
    """Raises `Unsafe` unless the newest backup that is to stay is there, and whole."""
    newest = next(
        each.backup
        for each in decisions
        if each.reasons and each.backup.whole and not is_in_future(each.backup.made, work.now)
    )
    if not _is_whole(work, newest):
        raise Unsafe(
            "it was to stay as the newest backup of its image, and somebody has removed or changed"
            " it meanwhile; no backup of that image was removed; prune again, which looks anew",
            path=newest.path,
        )


def _is_whole(work: Work, backup: Backup) -> bool:
    try:
        listed = work.look(backup.path)
    except NotFound:
        return False
    there = found_in(backup.path, "", listed, work.now).series
    return any(each.whole for one in there for each in one.backups)


def _dealt_with(work: Work, decision: Decision) -> PrunedBackup:
    backup = decision.backup
    reasons = decision.reasons or _removed(work, backup)
    return PrunedBackup(backup.path, backup.made, backup.allocated, reasons, not reasons)


def _removed(work: Work, backup: Backup) -> tuple[KeepReason, ...]:
    """Remove a backup. Returns why it stays, if it does."""
    try:
        work.remove(backup.path)
    except NotFound:  # another run was faster
        return ()
    except InUse:
        return ("in-use",)
    except Denied as error:
        error.message += _ADVICE
        raise
    return ()
