"""kill -9 of the process that shrinks: the image never holds a file system larger than itself,
and the same shrink again finishes it. `VIRTSTORE_TORTURE=1` for ten times as many moments."""

from __future__ import annotations

import fcntl
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from tests.tools.ext_images import (
    MEMORY,
    MIB,
    TORTURE,
    Tree,
    files_in,
    fsck,
    mke2fs,
    new_tree,
    opened,
)

from virtstore.filesystems.base import Device
from virtstore.filesystems.ext import Ext
from virtstore.filesystems.extsuper import read_superblock

KILLS: Final = 50 if TORTURE else 5
IMAGE: Final = 96 * MIB
TARGET: Final = 40 * MIB

SHRINK: Final = f"""
import fcntl, sys
from virtstore.filesystems.base import Device
from virtstore.filesystems.ext import Ext
with open(sys.argv[1], "r+b") as image, open(sys.argv[2], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("begun", flush=True)
    Ext().shrink(Device(image.fileno(), {IMAGE}, lock=lock.fileno()), {TARGET})
"""


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(3000) as tree:
        yield tree


@pytest.fixture(scope="module")
def pristine(tree: Tree) -> Iterator[Path]:
    """With most of its files behind what is going to be its end."""
    with TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "pristine"
        mke2fs(path, "-t", "ext4", "-d", str(tree.root), made=IMAGE, size=IMAGE)
        yield path


@pytest.fixture(scope="module")
def duration(pristine: Path) -> float:
    """Seconds from the beginning of the shrink to its end."""
    with _shrinking(pristine.with_name("timed"), pristine) as child:
        started = time.monotonic()
        assert child.wait() == 0
        return time.monotonic() - started


def _shrinking(path: Path, pristine: Path) -> subprocess.Popen[bytes]:
    shutil.copyfile(pristine, path)
    argv = (sys.executable, "-c", SHRINK, str(path), str(path.with_suffix(".lock")))
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"begun\n"
    return child


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_shrink_that_was_killed_is_whole_and_is_finished_by_the_next(
    pristine: Path, tree: Tree, duration: float, seed: int
) -> None:
    path = pristine.with_name(f"image-{seed}")
    with _shrinking(path, pristine) as child:
        time.sleep(random.Random(seed).random() * duration)
        child.kill()
    # The tool that was running goes on, and keeps the lock until it is done.
    with path.with_suffix(".lock").open() as lock, opened(path) as device:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _assert_it_ends_within_its_image(device)
        assert Ext().shrink(device, TARGET).size <= TARGET
        fsck(device)
        assert files_in(device) == tree.files
    path.unlink()


def _assert_it_ends_within_its_image(device: Device) -> None:
    superblock = read_superblock(device)
    assert superblock
    assert superblock.size in (IMAGE, TARGET)
    fsck(device)
