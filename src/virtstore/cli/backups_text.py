"""What a person sees of a directory of backups, and of its pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from virtstore.backups.retention import Pruned, PrunedBackup
from virtstore.backups.series import Backups, BackupSeries, is_in_future
from virtstore.cli.render import on
from virtstore.cli.table import Cell, Column, Row, table
from virtstore.cli.terminal import PLAIN, Screen
from virtstore.units import format_size

_COLUMNS: Final = (
    Column("BACKUPS", "number"),
    Column("NEWEST (UTC)"),
    Column("OLDEST (UTC)"),
    Column("SIZE", "number"),
    Column("ALLOCATED", "number"),
    Column("IMAGE", "path"),
)
_PRUNED: Final = (Column("KEPT BY"), Column("ALLOCATED", "number"), Column("PATH", "path"))
#: So many foreign files are named; `list` shows all.
_NAMED: Final = 3


def backups_text(
    found: Backups, now: datetime, *, exact: bool = False, screen: Screen = PLAIN
) -> str:
    """A line for each image, and what else there is to know. `exact`: bytes in place of units."""
    size = str if exact else format_size
    lines = []
    if found.series:
        lines = table(_COLUMNS, [_cells(each, size) for each in found.series], screen)
    notes = [*_notes(found, now)]
    return "\n".join([*lines, *(screen.line(note, indent=2) for note in notes)])


def _cells(series: BackupSeries, size: Callable[[int], str]) -> Row:
    return [
        Cell(str(series.count)),
        Cell(_time(series.newest), "error" if series.late else "plain"),
        Cell(_time(series.oldest)),
        Cell("-" if series.size is None else size(series.size)),
        Cell(size(series.allocated)),
        Cell(series.name),
    ]


def _notes(found: Backups, now: datetime) -> Iterator[str]:
    for series in found.series:
        cut = sum(not each.whole for each in series.backups)
        ahead = sum(each.whole and is_in_future(each.made, now) for each in series.backups)
        if cut:
            yield f"{series.name}: {cut} not whole: still being made, interrupted, or damaged"
        if ahead:
            yield f"{series.name}: {ahead} dated in the future: some clock is or was wrong"
    if found.foreign:
        names = [path.rpartition("/")[2] for path in found.foreign[:_NAMED]]
        more = ["…"] if len(found.foreign) > _NAMED else []
        yield f"foreign, never pruned: {len(found.foreign)} ({', '.join([*names, *more])})"


def late_lines(found: Backups, now: datetime) -> list[str]:
    """A line for each image whose newest backup is too old."""
    where = on(found.host, found.path)
    if not found.series:
        return [f"{where}: there is no backup"]
    return [f"{where}: {each.name}: {_lateness(each, now)}" for each in found.series if each.late]


def _lateness(series: BackupSeries, now: datetime) -> str:
    if series.newest is None:
        return "there is no whole backup"
    return f"the newest backup is of {_time(series.newest)} UTC, {_age(now - series.newest)} ago"


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    hours = minutes // 60
    short = f"{minutes} min" if minutes else "less than 1 min"
    return f"{hours // 24} days" if hours >= 72 else f"{hours} h" if hours else short


def pruned_text(done: Pruned, *, exact: bool = False, screen: Screen = PLAIN) -> str:
    """A line for each backup: the rules that keep it, or that it was removed."""
    size = str if exact else format_size
    backups = [each for series in done.series for each in series.backups]
    rows = [_pruned_cells(each, done, size) for each in backups]
    return "\n".join([*table(_PRUNED, rows, screen), _sum(backups, done, size)])


def _pruned_cells(backup: PrunedBackup, done: Pruned, size: Callable[[int], str]) -> Row:
    path = Cell(on(done.host, backup.path))
    kept = Cell(", ".join(backup.reasons))
    if backup.removed:
        kept = Cell("(would be removed)" if done.dry_run else "(removed)", "warning")
    return [kept, Cell(size(backup.allocated)), path]


def _sum(backups: Iterable[PrunedBackup], done: Pruned, size: Callable[[int], str]) -> str:
    removed = [each.removed for each in backups]
    verb, freed = ("would be removed", "to be freed") if done.dry_run else ("removed", "freed")
    return f"{sum(removed)} {verb}, {len(removed) - sum(removed)} stay, {size(done.freed)} {freed}"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
