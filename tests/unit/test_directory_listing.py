"""How a directory with very many files is read: their names at once, and each file when it is
wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from virtstore.backends.base import PARTIAL_SUFFIX, Stored
from virtstore.backends.files.container_directory import ContainerDirectory

NIGHT = "web.2026-11-28T020000Z.img.zst"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContainerDirectory]:
    store = ContainerDirectory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield store
    store.close()


def test_what_is_published_while_it_is_listed_is_listed_once(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    (tmp_path / "a.img").write_bytes(b"first")
    (tmp_path / f"{NIGHT}{PARTIAL_SUFFIX}").write_bytes(b"new")
    (tmp_path / "x.img").write_bytes(b"old")
    (tmp_path / f"x.img{PARTIAL_SUFFIX}").write_bytes(b"new")
    (tmp_path / "y.img").write_bytes(b"gone in a moment")
    listing = store.scan()
    assert next(listing).name == "a.img"
    for name in (NIGHT, "x.img"):
        (tmp_path / f"{name}{PARTIAL_SUFFIX}").rename(tmp_path / name)
    (tmp_path / "y.img").unlink()
    assert [(s.name, s.state) for s in listing] == [(NIGHT, "complete"), ("x.img", "complete")]


def test_an_archive_is_removed_without_a_look_at_all_the_others(
    store: ContainerDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NIGHT).write_bytes(zstandard.compress(b"contents"))
    (tmp_path / "raw.zst").write_bytes(bytes(1024))  # whose name says what it is not
    read: list[str] = []

    def scan(store: ContainerDirectory) -> Iterator[Stored]:
        read.append("all")
        return iter(())

    monkeypatch.setattr(ContainerDirectory, "scan", scan)
    assert store.overlays(NIGHT) == ()
    assert [each.name for each in store.named(NIGHT)] == [NIGHT]
    assert read == []
    store.overlays("raw.zst")
    assert read == ["all"]
