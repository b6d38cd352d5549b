"""Which backups of an image stay, by which rule, and which are removed.

Each rule looks at all backups for itself: it keeps the newest one of each of the last N periods in
which there is any. One that several rules keep is told with all of them. As long as a rule has
found fewer than N periods, it keeps the oldest backup as well, so that the history grows as long as
it may be. That is how restic does it, too.

Periods are those of the calendar in UTC, as the names of backups are, whatever the time zone of
any host; weeks begin on Monday (ISO 8601). Rules count backups, not days from today. Today's date
matters in one way only: a backup that is dated in the future was made by a wrong clock. It stays,
and counts for no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from virtstore.backups.series import Backup, is_in_future
from virtstore.errors import UsageError
from virtstore.units import parse_age

#: Why a backup stays: a rule by which it does, or what keeps it from being looked at by rules.
KeepReason = Literal[
    "last",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "within",
    "oldest",
    "future",
    "not-whole",
    "in-use",
]
_Period = Callable[[datetime], tuple[int, ...]]

#: By rule, what two moments of one period have in common.
_PERIODS: Final[dict[KeepReason, _Period]] = {
    "hourly": lambda made: (made.year, made.month, made.day, made.hour),
    "daily": lambda made: (made.year, made.month, made.day),
    "weekly": lambda made: made.isocalendar()[:2],
    "monthly": lambda made: (made.year, made.month),
    "yearly": lambda made: (made.year,),
}


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many backups of each image stay: the `last` ones, whenever they were made; the newest of
    so many hours, days, weeks (ISO 8601), months and years, in UTC, in which there is one; and all
    that were made `within` some time (`"30d"`) before the newest. Raises `UsageError` where nothing
    is to stay."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: str | None = None

    def __post_init__(self) -> None:
        counts = {rule: count_of(self, rule) for rule in ("last", *_PERIODS)}
        for rule, count in counts.items():
            if count < 0:
                raise UsageError(f"keep {rule} {count}: write how many are to stay")
        if not any(counts.values()) and self.within is None:
            raise UsageError(
                "no rule says what stays; give one that is not 0, such as --keep-daily 7"
            )
        _seconds_within(self)


def count_of(keep: Keep, rule: str) -> int:
    """How many backups a rule keeps."""
    found: int = getattr(keep, rule)
    return found


def _seconds_within(keep: Keep) -> int:
    return parse_age(keep.within) if keep.within is not None else 0


class Decision(msgspec.Struct, frozen=True):
    """A backup, and the reasons for which it stays; without any it is removed."""

    backup: Backup
    reasons: tuple[KeepReason, ...]


def decide(backups: Iterable[Backup], keep: Keep, now: datetime) -> list[Decision]:
    """What becomes of each backup of one image, the newest first. What is not whole stays and
    counts for nothing: somebody may be writing it."""
    ordered = sorted(backups, key=lambda each: (each.made, each.whole, each.path), reverse=True)
    real = [each for each in ordered if each.whole and not is_in_future(each.made, now)]
    reasons: dict[str, list[KeepReason]] = {each.path: [] for each in real}
    for each in real[: keep.last]:
        reasons[each.path].append("last")
    has_room = keep.last > len(real)
    for rule, period in _PERIODS.items():
        newest = _newest_of_each(real, period)
        for each in newest[: count_of(keep, rule)]:
            reasons[each.path].append(rule)
        has_room = has_room or count_of(keep, rule) > len(newest)
    for each in real:
        if keep.within is not None and _apart(real[0], each) <= _seconds_within(keep):
            reasons[each.path].append("within")
    if has_room and real and not reasons[real[-1].path]:
        reasons[real[-1].path].append("oldest")
    return [Decision(each, _reasons(each, reasons, now)) for each in ordered]


def _reasons(
    backup: Backup, found: dict[str, list[KeepReason]], now: datetime
) -> tuple[KeepReason, ...]:
    if not backup.whole:
        return ("not-whole",)
    return ("future",) if is_in_future(backup.made, now) else tuple(found[backup.path])


def _apart(newer: Backup, older: Backup) -> float:
    return (newer.made - older.made).total_seconds()


def _newest_of_each(ordered: Sequence[Backup], period: _Period) -> list[Backup]:
    """The newest of each period, the newest period first. They are ordered in the same way."""
    found: dict[tuple[int, ...], Backup] = {}
    for each in ordered:
        found.setdefault(period(each.made), each)
    return list(found.values())


class PrunedBackup(msgspec.Struct, frozen=True):
    """What `prune` did with a backup. `reasons`: why it stays; `removed`: there was none."""

    path: str
    made: datetime
    allocated: int
    reasons: tuple[KeepReason, ...]
    removed: bool


class PrunedSeries(msgspec.Struct, frozen=True):
    """What `prune` did with the backups of one image, the newest first."""

    name: str
    backups: tuple[PrunedBackup, ...]


class Pruned(msgspec.Struct, frozen=True):
    """What `prune` led to. `freed`: the bytes that the removed ones took. In a dry run `removed`
    is what would be."""

    path: str
    host: str
    changed: bool
    freed: int
    dry_run: bool
    series: tuple[PrunedSeries, ...]
