"""In a directory: what is left of an image that was changed in place is told from a draft, also
where an older version left it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX
from virtstore.backends.files.directory import Directory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Directory]:
    try:
        os.setxattr(tmp_path, "user.test", b"")
    except OSError as error:
        pytest.skip(f"no extended attributes on this file system: {error}")
    opened = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield opened
    opened.close()


def was_image(store: Directory) -> str:
    found = store.find("x.img")
    assert found
    assert found.state == "partial"
    return found.was_image


def left_by_an_older_version(place: Path) -> Path:
    path = place / f"x.img{PARTIAL_SUFFIX}"
    path.write_bytes(b"half of the old and half of the new")
    return path


def test_what_an_older_version_left_may_be_an_image(store: Directory, tmp_path: Path) -> None:
    left_by_an_older_version(tmp_path)
    assert was_image(store) == "maybe"
    assert [s.was_image for s in store.scan()] == ["maybe"]


def test_what_an_older_version_left_is_gone_on_with(store: Directory, tmp_path: Path) -> None:
    left_by_an_older_version(tmp_path).chmod(0o640)
    with store.rework("x.img") as image:
        assert was_image(store) == "yes"  # now it is known
        image.write_at(0, b"HALF")
        image.publish(overwrite=False)
    (made,) = tmp_path.iterdir()
    assert made.name == "x.img"
    assert made.read_bytes() == b"HALF of the old and half of the new"
    assert stat.S_IMODE(made.stat().st_mode) == 0o640


def test_a_draft_is_one_after_it_was_taken_up_and_no_more_once_it_is_published(
    store: Directory, tmp_path: Path
) -> None:
    left_by_an_older_version(tmp_path)
    for _ in range(2):
        with store.draft("x.img", 100) as draft:
            assert was_image(store) == "no"
    with store.draft("x.img", 100) as draft:
        draft.publish(overwrite=False)
    assert os.listxattr(tmp_path / "x.img") == []


def test_what_is_left_of_an_image_keeps_who_may_read_it(store: Directory, tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    (tmp_path / "x.img").chmod(0o640)
    with store.rework("x.img") as image:
        image.write_at(0, b"n")
    left = tmp_path / f"x.img{REWORK_SUFFIX}"
    assert stat.S_IMODE(left.stat().st_mode) == 0o640
    with store.draft("x.img", 100) as draft:
        draft.publish(overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.img"]
    assert stat.S_IMODE((tmp_path / "x.img").stat().st_mode) == 0o640


def test_without_extended_attributes_a_draft_is_known_by_its_name(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "cannot")

    for name in ("getxattr", "setxattr", "removexattr", "listxattr"):
        monkeypatch.setattr(os, name, cannot)
    store.draft("x.img", 100).close()
    assert was_image(store) == "no"
    with store.draft("x.img", 100) as draft:
        draft.publish(overwrite=False)
    with store.rework("x.img") as image:
        image.write_at(0, b"n")
        assert was_image(store) == "yes"
