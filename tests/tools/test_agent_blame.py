"""A copy that fails on one host names the image whose fault it is: source or target."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_agent_commands import images, told, tree

__all__ = ["images"]  # a fixture
MIB = 1 << 20


def _missing(path: Path) -> None:
    assert not path.exists()


def _cut(path: Path) -> None:
    """An archive that lacks its end."""
    plain = path.with_name("plain")
    plain.write_bytes(random.Random(1).randbytes(3 * MIB))
    told("copy", "--archive", plain, path)
    os.truncate(path, path.stat().st_size // 2)


def _flipped(path: Path) -> None:
    """An archive with a wrong bit in a frame."""
    _cut(path)
    path.unlink()
    told("copy", "--archive", path.with_name("plain"), path)
    with path.open("r+b") as file:
        file.seek(MIB)
        byte = file.read(1)[0]
        file.seek(MIB)
        file.write(bytes([byte ^ 1]))


_FAULTS: dict[str, tuple[Callable[[Path], object], int]] = {
    "missing": (_missing, 3),
    "a directory": (Path.mkdir, 3),
    "a symbolic link": (lambda path: path.symlink_to("x.img"), 5),
    "empty": (Path.touch, 9),
    "an archive cut short": (_cut, 9),
    "an archive with a wrong bit": (_flipped, 9),
}


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("verb", ["copy", "copy-contents"])
def test_what_is_wrong_with_the_source_is_said_of_the_source(
    images: Path, fault: str, verb: str
) -> None:
    make, status = _FAULTS[fault]
    source = images / "source"
    make(source)
    target = images / "target"
    if verb == "copy-contents":
        told("create", target, "4M")
    before = tree(images)
    error = told(verb, source, target, status=status)["error"]
    assert error["path"] == str(source), error
    assert tree(images) == before


def test_what_is_wrong_with_the_target_is_said_of_the_target(images: Path) -> None:
    target = images / "target"
    told("create", target, "1M")
    assert told("copy", images / "x.img", target, status=4)["error"]["path"] == str(target)
    error = told("copy-contents", images / "x.img", target, status=7)["error"]
    assert error["path"] == str(target)
    below = images / "nowhere" / "target"
    assert told("copy", images / "x.img", below, status=3)["error"]["path"] == str(below.parent)
