"""What runs on a FUSE file system, in a mount namespace of its own: test_fuse.py starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.backends.files.final_names import is_internal

#: Set in the environment: where the file system is mounted.
PLACE = "VIRTSTORE_FUSE"

collect_ignore_glob = [] if PLACE in os.environ else ["*"]


@pytest.fixture
def place() -> Iterator[Path]:
    """The file system, empty before and after."""
    found = Path(os.environ[PLACE])
    yield found
    for each in found.iterdir():
        if not is_internal(each.name):  # FUSE sees to these itself
            each.unlink()


@pytest.fixture
def images(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root beside it, with one image of random bytes and a hole; both are allowed."""
    root = tmp_path / "images"
    root.mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    lines = (f'[[directory]]\npath = "{each}"\naccess = "write"\n' for each in (root, place))
    config.write_text("".join(lines))
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    with (root / "x.img").open("wb") as file:
        file.write(os.urandom((2 << 20) + 512))
        file.truncate(4 << 20)
    return root
