"""A listing for whoever looks after backups: what is looked at of many objects."""

from __future__ import annotations

from datetime import UTC, datetime

from virtstore.agent.operations import sparing
from virtstore.backends.base import Stored
from virtstore.backups.series import found_in

_NOW = datetime(2025, 3, 29, tzinfo=UTC)


def _object(name: str, state: str = "complete", size: int = 100) -> Stored:
    return Stored(name, "file", state, size, size, modified=10**18)  # type: ignore[arg-type]


def _backup(series: str, day: int, state: str = "complete", size: int = 100) -> Stored:
    return _object(f"{series}.2025-03-{day:02}T020000Z.img.zst", state, size)


def test_only_the_newest_complete_backup_of_each_image_is_looked_at() -> None:
    newest = [_backup("web", 28), _backup("db.prod", 3)]
    others = [_backup("web", 1), _backup("web", 29, "partial"), _object("x.zst"), _object("x.img")]
    directory = Stored("site", "directory")
    found = sparing.newest([*others, newest[1], directory, newest[0]])
    assert {each.name for each in found} == {each.name for each in (*newest, directory)}


def test_what_was_not_looked_at_is_whole_by_its_name_and_length() -> None:
    stored = [_backup("web", day) for day in (26, 27)] + [_backup("web", 25, size=0)]
    stored.append(_backup("web", 28, "partial"))
    told = sparing.unseen("/s3/b", stored)
    images = [image for each in told for image in each.images]
    unseen = [path for each in told for path in each.unseen]
    [web] = found_in("/s3/b", "a", images, _NOW, unseen=unseen).series
    assert [(each.made.day, each.whole, each.size) for each in web.backups] == [
        (28, False, None),
        (27, True, None),
        (26, True, None),
        (25, False, None),
    ]
    assert (web.count, web.allocated) == (2, 300)


def test_many_objects_are_told_in_messages_of_bounded_length() -> None:
    told = sparing.unseen("/s3/b", [_object(f"{number}") for number in range(1000)])
    assert [len(each.images) for each in told] == [400, 400, 200]
    assert all(tuple(i.path for i in each.images) == each.unseen for each in told)
