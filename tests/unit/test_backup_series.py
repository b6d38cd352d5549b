"""What a listing of a directory says of the backups in it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from virtstore.backups.series import Backup, Backups, found_in
from virtstore.cli.backups_text import late_lines
from virtstore.model import Compression, Entry, EntryType, ImageInfo, State

NOW = datetime(2026, 11, 28, 8, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def archive(
    name: str,
    day: int,
    *,
    size: int | None = 1000,
    compression: Compression | None = "zstd",
    state: State = "complete",
) -> ImageInfo:
    path = f"/mnt/backups/{name}.2026-11-{day:02}T020000Z.img.zst"
    return ImageInfo(path, "b", "file", size, 100, compression, state=state)


def other(name: str, kind: EntryType = "other") -> Entry:
    return Entry(f"/mnt/backups/{name}", "b", kind)


def found(*listed: Entry | ImageInfo, max_age: timedelta | None = None) -> Backups:
    return found_in("/mnt/backups", "b", listed, NOW, max_age)


def test_backups_are_told_by_image_and_the_newest_first() -> None:
    listed = [archive("web", day) for day in range(1, 28)] + [archive("db.prod", 3)]
    random.Random(1).shuffle(listed)
    db, web = found(*listed).series
    assert (db.name, db.count) == ("db.prod", 1)
    assert (web.name, web.count, web.size, web.allocated) == ("web", 27, 1000, 2700)
    assert web.newest == NOW.replace(day=27, hour=2)
    assert web.oldest == NOW.replace(day=1, hour=2)
    assert [each.made.day for each in web.backups] == list(range(27, 0, -1))


def test_size_is_that_of_the_newest_image_since_a_restore_needs_that_much() -> None:
    [web] = found(archive("web", 1, size=1000), archive("web", 2, size=5000)).series
    assert web.size == 5000


def test_what_other_programs_keep_in_the_directory_is_foreign_and_no_series() -> None:
    foreign = ["notes.txt", "web.img.zst", "x.2026-02-30T020000Z.img.zst"]
    told = found(archive("web", 1), *map(other, foreign), other("sub", "directory"))
    assert [each.name for each in told.series] == ["web"]
    assert told.foreign == tuple(f"/mnt/backups/{name}" for name in foreign)


def test_a_link_or_a_directory_that_is_called_like_a_backup_is_none() -> None:
    name = "web.2026-11-01T020000Z.img.zst"
    told = found(other(name), other(name, "directory"))
    assert told.series == ()
    assert told.foreign == (f"/mnt/backups/{name}",)


def test_what_was_cut_or_is_no_archive_is_shown_and_not_counted() -> None:
    [web] = found(
        archive("web", 1),
        archive("web", 2, state="partial"),
        archive("web", 3, size=None),
        archive("web", 4, compression=None),
        archive("web", 5, compression="gzip"),
    ).series
    assert [each.whole for each in web.backups] == [False, False, False, False, True]
    first = NOW.replace(day=1, hour=2)
    assert (web.count, web.newest, web.oldest) == (1, first, first)
    assert web.allocated == 500


def test_an_image_without_a_whole_backup_has_no_newest_one() -> None:
    [web] = found(archive("web", 2, state="partial"), max_age=DAY).series
    assert (web.count, web.newest, web.oldest, web.size) == (0, None, None, None)
    assert web.late


def test_an_image_is_late_if_its_newest_whole_backup_is_older_than_asked() -> None:
    told = found(
        archive("db", 28),
        archive("web", 26),
        archive("web", 28, size=None),
        max_age=timedelta(hours=26),
    )
    assert [(each.name, each.late) for each in told.series] == [("db", False), ("web", True)]
    assert not any(each.late for each in found(archive("web", 1)).series)


def test_a_backup_that_is_dated_in_the_future_hides_no_night_that_failed() -> None:
    [web] = found(archive("web", 30), archive("web", 26), max_age=DAY).series
    assert web.late
    assert (web.newest, web.count) == (NOW.replace(day=26, hour=2), 1)
    assert len(web.backups) == 2


def test_a_whole_backup_is_told_before_a_partial_one_of_the_same_moment() -> None:
    [web] = found(archive("web", 1, state="partial"), archive("web", 1)).series
    assert [each.whole for each in web.backups] == [True, False]


def test_of_each_backup_all_is_told_that_the_listing_says() -> None:
    [web] = found(archive("web", 1)).series
    path = "/mnt/backups/web.2026-11-01T020000Z.img.zst"
    assert web.backups == (Backup(path, NOW.replace(day=1, hour=2), 1000, 100, True),)


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (timedelta(seconds=59), "less than 1 min ago"),
        (timedelta(minutes=45), "45 min ago"),
        (timedelta(hours=26, minutes=10), "26 h ago"),
        (timedelta(days=8), "8 days ago"),
    ],
)
def test_who_is_late_is_told_how_old_the_newest_is(age: timedelta, told: str) -> None:
    """The limit may be of minutes."""
    listed = [archive("web", 27)]
    now = datetime(2026, 11, 27, 2, 0, 0, tzinfo=UTC) + age
    series = found_in("/mnt/backups", "b", listed, now, timedelta(seconds=1))
    (line,) = late_lines(series, now)
    assert line.endswith(told)
