"""`restore`: which backup is taken, and what becomes of an image that is there."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.schemas import check

import virtstore

from .test_agent_commands import MIB, images, told, tree
from .test_agent_commands import virtstore as command
from .test_json import used

__all__ = ["images"]  # a fixture


@pytest.fixture
def contents(images: Path) -> list[bytes]:
    """What the image x.img was on two days, of which there are backups, and is now."""
    (images / "backups").mkdir()
    found = []
    for day in (1, 2, 3):
        (images / "x.img").write_bytes(os.urandom(MIB + day) + bytes(MIB))
        found.append((images / "x.img").read_bytes())
        if day < 3:
            archive = images / "backups" / f"x.2020-01-{day:02}T020000Z.img.zst"
            command("copy", images / "x.img", archive, "--archive")
    return found


def restored(*words: object, status: int | None = 0) -> Any:
    answer = json.loads(command("restore", *words, "--json", status=status).stdout)
    check("restore", answer)
    return answer


def test_the_newest_backup_of_a_name_is_restored_and_named(
    images: Path, contents: list[bytes]
) -> None:
    (images / "backups" / "x.2020-01-03T020000Z.img.zst.virtstore-partial").write_bytes(b"x")
    shown = command("restore", images / "backups" / "x", images / "new.img").stdout
    assert (images / "new.img").read_bytes() == contents[1]
    assert shown.rstrip().endswith(f"from {images}/backups/x.2020-01-02T020000Z.img.zst")


@pytest.mark.parametrize("target", ["x.img", "new.img"])
def test_a_backup_that_was_cut_is_called_so(
    images: Path, contents: list[bytes], target: str
) -> None:
    cut = images / "backups" / "x.2020-01-03T020000Z.img.zst"
    cut.with_name(f"{cut.name}.virtstore-partial").write_bytes(b"x")
    error = restored(cut, images / target, "--overwrite", status=3)["error"]
    assert "an interrupted operation left a partial one" in error["message"]
    assert (images / "x.img").read_bytes() == contents[2]


def test_a_backup_whose_beginning_is_damaged_is_corrupt(
    images: Path, contents: list[bytes]
) -> None:
    backup = images / "backups" / "x.2020-01-02T020000Z.img.zst"
    with backup.open("r+b") as file:
        file.write(bytes(100))
    error = restored(backup, images / "new.img", status=9)["error"]
    assert "it is called a zstd archive (.zst) and is none" in error["message"]
    assert not (images / "new.img").exists()


@pytest.mark.parametrize("at", ["2020-01-01", "2020-01-02T01:59Z", "2020-01-01T020000Z"])
def test_of_a_time_the_newest_is_restored_that_there_was_then(
    images: Path, contents: list[bytes], at: str
) -> None:
    done = restored(images / "backups" / "x", images / "new.img", "--at", at)
    assert (images / "new.img").read_bytes() == contents[0]
    assert done["source"] == f"{images}/backups/x.2020-01-01T020000Z.img.zst"


def test_one_archive_is_restored_by_its_own_name(images: Path, contents: list[bytes]) -> None:
    archive = images / "backups" / "x.2020-01-01T020000Z.img.zst"
    restored(archive, images / "new.img")
    assert (images / "new.img").read_bytes() == contents[0]
    error = restored(archive, images / "other.img", "--at", "2020-01-02", status=2)["error"]
    assert "one backup" in error["message"]


def test_in_a_directory_it_is_called_as_its_image_was(images: Path, contents: list[bytes]) -> None:
    (images / "new").mkdir()
    for backup in ("x", "x.2020-01-02T020000Z.img.zst"):
        done = restored(images / "backups" / backup, images / "new")
        assert done["target"] == f"{images}/new/x.img"
        (images / "new" / "x.img").unlink()


def test_an_image_that_is_there_is_replaced_only_where_that_is_said(
    images: Path, contents: list[bytes]
) -> None:
    before = tree(images)
    error = restored(images / "backups" / "x", images / "x.img", status=4)["error"]
    assert "--overwrite" in error["message"]
    shown = command("restore", images / "backups" / "x", images / "x.img", "--overwrite", "-n")
    assert "overwritten in place" in " ".join(shown.stdout.split())
    assert tree(images) == before
    with used(images / "x.img"):
        restored(images / "backups" / "x", images / "x.img", "--overwrite", status=6)
    assert tree(images) == before


@pytest.mark.parametrize("larger", [True, False])
def test_what_is_large_enough_keeps_its_size_and_what_is_not_gets_that_of_the_backup(
    images: Path, contents: list[bytes], larger: bool
) -> None:
    target = images / "there.img"
    target.write_bytes(os.urandom(3 * MIB if larger else MIB))
    inode = target.stat().st_ino
    [planned] = restored(images / "backups" / "x", target, "--overwrite", "-n")["warnings"]
    assert ("in place" in planned, "replaced" in planned) == (larger, not larger)
    restored(images / "backups" / "x", target, "--overwrite")
    rest = bytes(3 * MIB - len(contents[1])) if larger else b""
    assert target.read_bytes() == contents[1] + rest
    assert (target.stat().st_ino == inode) == larger


def test_a_backup_is_restored_into_a_qcow2(images: Path, contents: list[bytes]) -> None:
    restored(images / "backups" / "x", images / "new.qcow2")
    restored(images / "backups" / "x", images / "new.qcow2", "--overwrite", "--at", "2020-01-01")
    told("copy", images / "new.qcow2", images / "new.img")
    assert (images / "new.img").read_bytes()[: len(contents[0])] == contents[0]


@pytest.mark.parametrize(
    ("backup", "words", "code", "says"),
    [
        ("y", [], "not-found", "there are backups of .*/backups/x"),
        ("", [], "usage", "is a directory; write which image; .*/backups/x"),
        ("/x.img", [], "usage", "is no archive"),
        ("x", ["--at", "2019-12-31"], "not-found", "the oldest is of 2020-01-01T020000Z"),
        ("x", ["--at", "noon"], "usage", "is no time"),
        ("none/x", [], "not-found", "no such"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_can(
    images: Path, contents: list[bytes], backup: str, words: list[str], code: str, says: str
) -> None:
    before = tree(images)
    where = images / "x.img" if backup == "/x.img" else images / "backups" / backup
    error = restored(where, images / "new.img", *words, status=None)["error"]
    assert error["code"] == code
    assert re.search(says, error["message"])
    assert tree(images) == before


def test_in_python_the_copy_that_was_made_is_told(images: Path, contents: list[bytes]) -> None:
    at = datetime(2020, 1, 1, 12, tzinfo=UTC)
    seen: list[virtstore.Progress] = []
    with virtstore.connect() as here:
        new = here.image(f"{images}/new.img")
        done = virtstore.restore(
            here.image(f"{images}/backups/x"), new, at=at, progress=seen.append
        )
        assert (done.path, done.size) == (new.path, len(contents[0]))
        with pytest.raises(virtstore.Exists):
            virtstore.restore(here.image(f"{images}/backups/x"), new)
        assert virtstore.restore(
            here.image(f"{images}/backups/x"), new, overwrite=True
        ).source.endswith("x.2020-01-02T020000Z.img.zst")
    assert (images / "new.img").read_bytes() == contents[1]
    assert seen
