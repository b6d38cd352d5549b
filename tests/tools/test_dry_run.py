"""What a dry run promises: it is refused wherever the real run is, and changes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .test_agent_commands import images, told, tree, virtstore

__all__ = ["images"]  # a fixture


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("create", "new.img", "{too_much}"), 7),
        (("grow", "x.img", "{too_much}"), 7),
        (("copy", "huge.img", "new.img"), 7),
        (("compress", "x.img", "--level", "99"), 2),
        (("compress", "x.img", "--format", "gzip", "--level", "99"), 2),
        (("compress", "x.img", "--format", "lz4", "--level", "-99"), 2),
        (("create", "x.img", "1M"), 4),
        (("copy", "missing.img", "new.img"), 3),
    ],
)
def test_a_dry_run_is_refused_where_the_real_one_is(
    images: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], status: int
) -> None:
    monkeypatch.chdir(images)
    too_much = 2 * shutil.disk_usage(images).free
    words = [word.format(too_much=too_much) for word in command]
    with Path("huge.img").open("wb") as file:
        file.truncate(too_much)
    names = sorted(os.listdir())
    for dry in ((), ("--dry-run",)):
        virtstore(*words, *dry, status=status)
        assert sorted(os.listdir()) == names


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        ("copy x.img y.img", ""),
        ("copy x.img y.img.lz4 --archive", ", as a lz4 archive"),
        ("copy x.img y.img --archive --overwrite", ", as a zstd archive, in place of what may be"),
        ("copy-contents x.img y.img", ", over what is there, where it differs"),
    ],
)
def test_a_dry_run_of_a_copy_tells_what_becomes_of_the_target(
    images: Path, monkeypatch: pytest.MonkeyPatch, words: str, plan: str
) -> None:
    monkeypatch.chdir(images)
    if "y.img " not in f"{words} " or plan.endswith(("be", "differs")):
        shutil.copy("x.img", "y.img")
    told = virtstore(*words.split(), "-n").stdout
    target = words.split()[2]
    assert told.startswith(f"would copy 3 MiB from {images}/x.img to {images}/{target}{plan}")
    assert plan or told.endswith("y.img\n")


def test_a_dry_run_of_a_snapshot_knows_what_the_file_system_can(images: Path) -> None:
    before = tree(images)
    dry = virtstore("snapshot", images / "x.img", "--dry-run", status=None)
    assert tree(images) == before
    planned = told("snapshot", images / "x.img", "--dry-run", status=dry.returncode)
    real = told("snapshot", images / "x.img", status=dry.returncode)
    assert planned.get("size") == real.get("size")
