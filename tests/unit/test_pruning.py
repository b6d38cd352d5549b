"""Pruning while others work in the same directory: what is decided of a listing may be outdated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from virtstore.backups.names import backup_name
from virtstore.backups.retention import Keep, Pruned
from virtstore.backups.series import found_in
from virtstore.client.pruning import Work, prune
from virtstore.errors import Denied, Error, InUse, NotFound, Unsafe
from virtstore.model import Entry, ImageInfo

NOW = datetime(2026, 11, 28, 8, 0, 0, tzinfo=UTC)


def archive(name: str, days: int, size: int | None = 1000) -> ImageInfo:
    path = f"/b/{backup_name(name, NOW - timedelta(days=days))}"
    return ImageInfo(path, "b", "file", size, 100, "zstd" if size else None)


class Directory:
    """A directory of backups, of which `changed` is what others made of it after it was listed."""

    def __init__(self, *listed: ImageInfo) -> None:
        self.listed = listed
        self.there = {each.path: each for each in listed}
        self.refusals: dict[str, Error] = {}
        self.removed: list[str] = []

    def look(self, path: str) -> Sequence[Entry | ImageInfo]:
        if path not in self.there:
            raise NotFound("no such image", path=path)
        return [self.there[path]]

    def remove(self, path: str) -> None:
        if path in self.refusals:
            raise self.refusals[path]
        if path not in self.there:
            raise NotFound("no such image", path=path)
        del self.there[path]
        self.removed.append(path)

    def prune(self, *, last: int) -> Pruned:
        told: list[tuple[int, int]] = []
        work = Work(self.look, self.remove, lambda *of: told.append(of), NOW, dry_run=False)
        done = prune(found_in("/b", "b", self.listed, NOW), Keep(last=last), work)
        assert told == sorted(told)
        assert not told or told[-1][0] == told[-1][1]
        return done


@pytest.mark.parametrize("instead", [None, archive("web", 0, size=None)])
def test_nothing_is_removed_of_an_image_whose_newest_backup_has_gone_meanwhile(
    instead: ImageInfo | None,
) -> None:
    directory = Directory(*(archive("web", days) for days in range(3)))
    newest = directory.listed[0].path
    del directory.there[newest]
    if instead:
        directory.there[newest] = instead
    with pytest.raises(Unsafe, match="meanwhile") as caught:
        directory.prune(last=1)
    assert caught.value.path == newest
    assert directory.removed == []


def test_what_another_run_has_removed_already_counts_as_removed() -> None:
    directory = Directory(*(archive("web", days) for days in range(3)))
    del directory.there[directory.listed[2].path]
    [web] = directory.prune(last=1).series
    assert [each.removed for each in web.backups] == [False, True, True]


def test_the_oldest_go_first_so_that_a_run_that_is_cut_leaves_the_newest() -> None:
    directory = Directory(*(archive("web", days) for days in range(4)))
    directory.prune(last=1)
    assert directory.removed == [each.path for each in reversed(directory.listed[1:])]


def test_a_backup_in_use_stays_and_is_told_with_that() -> None:
    directory = Directory(*(archive("web", days) for days in range(3)))
    directory.refusals[directory.listed[1].path] = InUse("a restore reads it")
    done = directory.prune(last=1)
    assert [each.reasons for each in done.series[0].backups] == [("last",), ("in-use",), ()]
    assert (done.changed, done.freed) == (True, 100)


def test_a_refusal_says_where_pruning_is_done_and_ends_the_run() -> None:
    directory = Directory(*(archive("web", days) for days in range(3)))
    directory.refusals[directory.listed[2].path] = Denied("--access append")
    with pytest.raises(Denied, match=r"--access append; .* on the backup host itself"):
        directory.prune(last=1)
    assert directory.removed == []


def test_an_image_of_which_nothing_is_to_go_is_not_asked_for_again() -> None:
    directory = Directory(archive("web", 0))
    directory.there.clear()
    assert directory.prune(last=1).changed is False
