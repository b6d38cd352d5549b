"""A directory of backups: what is told of it, what pruning removes, and the morning's check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.warm import COMMAND

import virtstore as api
from virtstore.backups.names import backup_name

from .. import schemas
from ..waiting import PATIENCE
from . import kills
from .test_agent_commands import images, told, tree, virtstore

__all__ = ["images"]  # a fixture

NIGHT = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) - timedelta(days=1)


def backup(images: Path, name: str, days: int) -> Path:
    """A backup of so many nights ago, of a real archive."""
    archive = images.parent / "archive.zst"
    if not archive.exists():
        told("copy", "--archive", images / "x.img", images / "made.zst")
        (images / "made.zst").rename(archive)
    path = images / "b" / str(backup_name(name, NIGHT - timedelta(days=days)))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(archive, path)
    return path


@pytest.fixture
def nights(images: Path) -> list[Path]:
    """Backups of ten nights, the newest first."""
    return [backup(images, "web", days) for days in range(10)]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_backups_are_told_by_image_with_the_keys_of_the_interface(
    images: Path, nights: list[Path]
) -> None:
    backup(images, "db.prod", 3)
    (images / "b" / "notes.txt").write_text("of the administrator")
    found = told("backups", images / "b")
    schemas.check("backups", found)
    db, web = found
    assert list(web) == [
        "name", "count", "newest", "oldest", "size", "allocated", "late", "backups",
    ]  # fmt: skip
    assert (db["name"], web["name"], web["count"], web["late"]) == ("db.prod", "web", 10, False)
    assert web["newest"] == f"{NIGHT:%Y-%m-%dT%H:%M:%SZ}"
    assert web["oldest"] == f"{NIGHT - timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}"
    assert web["size"] == (images / "x.img").stat().st_size
    assert web["allocated"] == sum(path.stat().st_blocks * 512 for path in nights)
    assert list(web["backups"][0]) == ["path", "made", "size", "allocated", "whole"]
    assert [each["path"] for each in web["backups"]] == list(map(str, nights))
    text = virtstore("backups", images / "b").stdout
    assert "foreign, never pruned: 1 (notes.txt)" in text


def test_what_was_cut_is_shown_and_is_no_backup_to_count_on(
    images: Path, nights: list[Path]
) -> None:
    os.truncate(nights[0], 2000)
    nights[1].write_bytes(b"")
    nights[2].rename(f"{nights[2]}.virtstore-partial")
    [web] = told("backups", images / "b")
    assert [each["whole"] for each in web["backups"]][:4] == [False, False, False, True]
    assert (web["count"], web["newest"]) == (7, web["backups"][3]["made"])
    assert "web: 3 not whole" in virtstore("backups", images / "b").stdout


def test_the_mornings_check_fails_and_names_the_image_that_is_late(
    images: Path, nights: list[Path]
) -> None:
    backup(images, "db", 3)
    done = virtstore("backups", images / "b", "--max-age", "50h", status=1)
    assert "db: the newest backup is of" in done.stderr
    assert "web" not in done.stderr
    assert [each["late"] for each in told("backups", images / "b", "--max-age=50h", status=1)] == [
        True,
        False,
    ]
    assert virtstore("backups", images / "b", "--max-age", "1w").stderr == ""


def test_the_mornings_check_fails_where_there_is_no_backup_at_all(images: Path) -> None:
    done = virtstore("backups", images, "--max-age", "26h", status=1)
    assert f"{images}: there is no backup" in done.stderr
    assert told("backups", images, "--max-age", "26h", status=1) == []
    assert virtstore("backups", images).returncode == 0


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("backups {x}", 2, "it is an image; name the directory"),
        ("backups {missing}", 3, "no such"),
        ("backups {b} --max-age 26", 2, "is no age"),
        ("backups {b} --prometheus {missing}/x.prom", 3, "{missing}/x.prom: No such file"),
        ("prune {b}", 2, "say what is to stay"),
        ("prune {b} --keep-daily 0", 2, "no rule says what stays"),
        ("prune {b} --keep-daily -3", 2, "keep daily -3"),
        ("prune {b} --keep-daily many", 2, "is no number"),
        ("prune {x} --keep-last 1", 2, "it is an image; name the directory"),
        ("prune {missing} --keep-last 1", 3, "no such"),
    ],
)
def test_what_makes_no_sense_is_refused_and_says_what_would(
    images: Path, nights: list[Path], line: str, status: int, says: str
) -> None:
    before = tree(images)
    places = {"x": images / "x.img", "b": images / "b", "missing": images / "missing"}
    done = virtstore(*line.format(**places).split(), status=status)
    assert says.format(**places) in done.stderr
    assert tree(images) == before


def test_prune_removes_what_no_rule_keeps_and_names_the_rules_of_the_others(
    images: Path, nights: list[Path]
) -> None:
    kept = [nights[0].name, nights[1].name, nights[-1].name]
    done = told("prune", images / "b", "--keep-daily", 2, "--keep-yearly", 5)
    schemas.check("prune", done)
    [web] = done["series"]
    assert names(images / "b") == sorted(kept)
    assert [each["reasons"] for each in web["backups"] if not each["removed"]] == [
        ["daily", "yearly"],
        ["daily"],
        ["oldest"],
    ]
    assert done["changed"]
    assert done["freed"] == sum(each["allocated"] for each in web["backups"] if each["removed"])
    again = told("prune", images / "b", "--keep-daily", 2, "--keep-yearly", 5)
    assert (again["changed"], again["freed"]) == (False, 0)


def test_a_dry_run_says_what_would_be_removed_and_removes_nothing(
    images: Path, nights: list[Path]
) -> None:
    before = tree(images)
    dry = told("prune", images / "b", "--keep-last", 3, "-n")
    text = virtstore("prune", images / "b", "--keep-last", 3, "-n").stdout
    assert tree(images) == before
    assert text.count("(would be removed)") == 7
    assert "7 would be removed, 3 stay" in text
    done = told("prune", images / "b", "--keep-last", 3)
    assert {**dry, "dry_run": False, "changed": True} == done


def test_prune_touches_nothing_but_whole_backups(images: Path, nights: list[Path]) -> None:
    os.truncate(nights[3], 2000)
    partial = nights[4].rename(f"{nights[4]}.virtstore-partial")
    ahead = backup(images, "web", -40)
    foreign = images / "b" / "web.2026-02-30T020000Z.img.zst"
    shutil.copy(nights[0], foreign)
    (images / "b" / "below").mkdir()
    shutil.copy(nights[0], images / "b" / "below" / nights[5].name)
    link = images / "b" / str(backup_name("web", NIGHT - timedelta(days=99)))
    link.symlink_to(nights[0])
    virtstore("prune", images / "b", "--keep-last", 1)
    stay = [nights[0], nights[3], partial, ahead, foreign, link]
    assert names(images / "b") == sorted(["below", *(path.name for path in stay)])
    assert names(images / "b" / "below") == [nights[5].name]


def test_each_image_keeps_backups_of_its_own(images: Path, nights: list[Path]) -> None:
    others = [backup(images, name, 5) for name in ("db", "web.old", "web@a")]
    virtstore("prune", images / "b", "--keep-last", 1)
    assert names(images / "b") == sorted(path.name for path in [nights[0], *others])


def test_only_the_images_that_are_named_are_pruned(images: Path, nights: list[Path]) -> None:
    others = [backup(images, "db", days) for days in range(3)]
    done = virtstore("prune", images / "b", "db", "wbe", "--keep-last", 1, status=3)
    assert "there is no backup of 'wbe'" in done.stderr
    assert len(names(images / "b")) == 13
    virtstore("prune", images / "b", "db", "--keep-last", 1)
    assert names(images / "b") == sorted(path.name for path in [*nights, others[0]])


def test_a_backup_that_is_being_read_stays_and_the_others_go(
    images: Path, nights: list[Path]
) -> None:
    with nights[5].open("r+b"):  # as some other program has it
        done = told("prune", images / "b", "--keep-last", 1)
    assert names(images / "b") == sorted([nights[0].name, nights[5].name])
    [web] = done["series"]
    assert [each["reasons"] for each in web["backups"] if not each["removed"]] == [
        ["last"],
        ["in-use"],
    ]


def test_two_runs_at_once_remove_what_one_would(images: Path, nights: list[Path]) -> None:
    argv = [sys.executable, "-c", COMMAND, "prune", f"{images}/b", "--keep-last", "2"]
    runs = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(run.communicate(timeout=PATIENCE), run.returncode)[1] for run in runs] == [0, 0, 0]
    assert names(images / "b") == sorted(path.name for path in nights[:2])


def test_a_run_that_is_killed_leaves_whole_backups_and_the_next_one_goes_on(
    images: Path, nights: list[Path]
) -> None:
    archive, config = nights[0].read_bytes(), images.parent / "config.toml"

    def prune(host: api.Host) -> object:
        return host.prune(f"{images}/b", api.Keep(last=2))

    all_of_it = kills.run(config, prune, "agent", None).work
    cut = 0
    for part in range(1, 9):
        for path in nights:
            path.write_bytes(archive)
        ended = kills.run(config, prune, "agent", all_of_it * part // 10)
        left = names(images / "b")
        cut += 2 < len(left) < 10
        assert {path.name for path in nights[:2]} <= {*left} <= {path.name for path in nights}
        assert all((images / "b" / name).read_bytes() == archive for name in left)
        assert ended.error is None or isinstance(ended.error, api.ConnectionFailed)
        virtstore("prune", images / "b", "--keep-last", 2)
        assert names(images / "b") == sorted(path.name for path in nights[:2])
    assert cut, "no run was cut in its middle"


def test_who_may_only_add_backups_is_told_where_pruning_is_done(
    images: Path, nights: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = images.parent / "append.toml"
    config.write_text(f'[[directory]]\npath = "{images}"\naccess = "append"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    for dry in ((), ("-n",)):
        done = virtstore("prune", images / "b", "--keep-last", 1, *dry, status=5)
        assert 'needs "write"' in done.stderr
        assert "on the backup host itself" in done.stderr
    assert len(names(images / "b")) == 10
    assert told("prune", images / "b", "--keep-last", 10)["changed"] is False


def test_metrics_are_replaced_in_one_step_and_readable_by_others(
    images: Path, nights: list[Path]
) -> None:
    file = images.parent / "backups.prom"
    file.write_text("old")
    before = file.stat().st_ino
    virtstore("backups", images / "b", "--max-age", "1h", "--prometheus", file, status=1)
    text = file.read_text()
    labels = f'{{directory="{images}/b",image="web"}}'
    assert f"virtstore_backups{labels} 10\n" in text
    assert f"virtstore_backup_newest_timestamp_seconds{labels} {int(NIGHT.timestamp())}\n" in text
    assert f"virtstore_backup_late{labels} 1\n" in text
    assert file.stat().st_ino != before
    assert file.stat().st_mode & 0o777 == 0o644
    assert not [name for name in names(images.parent) if name.startswith(".backups")]


def test_python_has_the_same(images: Path, nights: list[Path]) -> None:
    events: list[api.Progress] = []
    directory = str(images / "b")
    with api.connect() as host:
        found = host.backups(directory, max_age="1h", progress=events.append)
        assert [(each.name, each.count, each.late) for each in found.series] == [("web", 10, True)]
        assert {each.operation for each in events} == {"backups"}
        dry = host.prune(directory, api.Keep(last=4), dry_run=True)
        assert (dry.changed, len(names(images / "b"))) == (False, 10)
        events.clear()
        done = host.prune(directory, api.Keep(last=4), progress=events.append)
        assert done.freed == dry.freed > 0
        assert {"removing", "done"} <= {each.stage for each in events}
        assert [each.count for each in host.backups(directory).series] == [4]
        with pytest.raises(api.UsageError):
            host.backups(f"{directory}/{nights[0].name}")


def test_verify_of_a_directory_reads_all_archives_below_and_finds_the_damaged(
    images: Path, nights: list[Path]
) -> None:
    (images / "b" / "below").mkdir()
    deep = nights[1].rename(images / "b" / "below" / nights[1].name)
    nameless = nights[2].rename(images / "b" / "backup23image")
    nights[3].rename(f"{nights[3]}.virtstore-partial")
    os.truncate(nights[4], 2000)
    nights[5].write_bytes(b"")
    found = told("verify", images, status=9)
    schemas.check("verify", found)
    whole = {each["path"] for each in found if "path" in each}
    damaged = {each["error"]["path"] for each in found if "error" in each}
    assert whole == {str(p) for p in [nights[0], deep, nameless, *nights[6:]]}
    assert damaged == {str(nights[4]), str(nights[5])}


def test_verify_of_one_archive_answers_with_a_document_and_of_a_directory_with_a_list(
    images: Path, nights: list[Path]
) -> None:
    for path in nights[1:]:
        path.unlink()
    one = told("verify", nights[0])
    assert told("verify", images / "b") == [one]
    nights[0].unlink()
    error = told("verify", images / "b", status=3)["error"]
    assert "there is no archive" in error["message"]


def test_a_sample_of_a_directory_reads_what_is_due_today(images: Path, nights: list[Path]) -> None:
    assert len(told("verify", images / "b", "--sample", "100%")) == 10
    done = virtstore("verify", images / "b", "--sample", "0.000001%")
    assert "0 of 10 archives are due" in done.stderr
    assert told("verify", images / "b", "--sample", "0.000001%") == []
    assert "no part of all" in virtstore("verify", images, "--sample", "0%", status=2).stderr
