"""A resize of a plain file that was interrupted is told from other data behind a file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.backends.files.directory import Directory

THIS = "ext4 12345678 at 0 of 8192"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    (tmp_path / "x.img").write_bytes(bytes(8192))
    store = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield store
    store.close()


@pytest.fixture
def interrupted(directory: Directory) -> Directory:
    """A shrink of what ended at byte 6000 did not come to its end."""
    with pytest.raises(KeyboardInterrupt), directory.guarded("x.img", 6000, THIS):
        raise KeyboardInterrupt
    assert directory.remnants("x.img", THIS) == 6000
    return directory


def test_the_mark_lasts_until_what_is_left_behind_is_cut_off(directory: Directory) -> None:
    assert directory.remnants("x.img", THIS) == 0
    with directory.guarded("x.img", 6000, THIS) as name:
        assert name == "x.img"
        assert directory.remnants("x.img", THIS) == 6000
    assert directory.remnants("x.img", THIS) == 6000
    directory.shrink("x.img", 4096)
    assert directory.remnants("x.img", THIS) == 0


def test_what_was_interrupted_twice_is_known_by_its_first_end(interrupted: Directory) -> None:
    with pytest.raises(KeyboardInterrupt), interrupted.guarded("x.img", 4096, THIS):
        raise KeyboardInterrupt
    assert interrupted.remnants("x.img", THIS) == 6000


@pytest.mark.parametrize(
    "other",
    ["ext4 87654321 at 0 of 8192", "ext4 12345678 at 512 of 8192", "ext4 12345678 at 0 of 9216"],
)
def test_the_mark_says_nothing_of_other_contents(interrupted: Directory, other: str) -> None:
    assert interrupted.remnants("x.img", other) == 0
    with interrupted.guarded("x.img", 1000, other):
        pass
    assert interrupted.remnants("x.img", other) == 1000
    assert interrupted.remnants("x.img", THIS) == 0


def test_the_mark_goes_before_other_contents_come(interrupted: Directory) -> None:
    with interrupted.rework("x.img") as image:
        assert interrupted.remnants("x.img", THIS) == 6000
        image.write_at(0, b"other contents")
        image.publish(overwrite=False)
    assert interrupted.remnants("x.img", THIS) == 0


def test_the_mark_stays_where_nothing_was_written(interrupted: Directory) -> None:
    with interrupted.rework("x.img") as image:
        image.publish(overwrite=False)
    assert interrupted.remnants("x.img", THIS) == 6000


@pytest.mark.parametrize(("size", "left"), [(8192, 6000), (9216, 0)])
def test_the_mark_goes_when_the_image_grows(interrupted: Directory, size: int, left: int) -> None:
    interrupted.grow("x.img", size)
    assert interrupted.remnants("x.img", THIS) == left


@pytest.mark.parametrize("noted", [b"", b"8192", b"-1 " + THIS.encode(), b"\xff " + THIS.encode()])
def test_a_mark_that_makes_no_sense_is_none(
    directory: Directory, tmp_path: Path, noted: bytes
) -> None:
    os.setxattr(tmp_path / "x.img", "user.virtstore.shrinking", noted)
    assert directory.remnants("x.img", THIS) == 0
    directory.forget_remnants("x.img")
    directory.forget_remnants("x.img")
    assert os.listxattr(tmp_path / "x.img") == []
