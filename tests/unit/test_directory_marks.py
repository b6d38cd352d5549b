"""A resize of a plain file that was interrupted is told from other data behind a file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.backends.directory import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    (tmp_path / "x.img").write_bytes(bytes(8192))
    store = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield store
    store.close()


def test_what_ended_well_leaves_no_mark(directory: Directory) -> None:
    assert directory.remnants("x.img") == 0
    with directory.guarded("x.img", 4096) as name:
        assert name == "x.img"
        assert directory.remnants("x.img") == 4096
    assert directory.remnants("x.img") == 0


def test_what_was_interrupted_twice_is_known_by_its_first_end(directory: Directory) -> None:
    for end in (8192, 4096):
        with pytest.raises(KeyboardInterrupt), directory.guarded("x.img", end):
            raise KeyboardInterrupt
    assert directory.remnants("x.img") == 8192
