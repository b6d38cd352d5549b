"""kill -9 of the agent at any moment of a resize: the file system is never cut by its partition
or image, loses no file, and the same command again finishes it."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.tools.ext_images import MIB, TORTURE, new_tree
from tests.tools.kills import agent_of
from tests.tools.resize_images import (
    LAYOUTS,
    Made,
    check,
    check_files,
    configuration,
    make_filesystem,
    make_image,
    new_root,
)
from tests.waiting import PATIENCE

import virtstore

KILLS: Final = 50 if TORTURE else 6
#: Enough files that most of the time goes into the tools.
FILES: Final = 1200

COMMANDS = ("shrinkfs 18M", "resize 22M", "resize 44M")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with new_root() as root:
        yield root


@pytest.fixture(scope="module")
def survivor(root: Path) -> Iterator[virtstore.Host]:
    """A session of whoever looks afterwards."""
    with virtstore.connect(config=str(configuration(root))) as host:
        yield host


@pytest.fixture(scope="module")
def images(root: Path) -> dict[str, Made]:
    """One in each layout, to be copied; with room behind its file system."""
    with new_tree(FILES) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        names = ("bare", "gpt")
        return {
            name: make_image(root.with_name(name), LAYOUTS[name], "ext4", source, contents)
            for name in names
        }


def run(host: virtstore.Host, line: str, path: Path, *, dry_run: bool = False) -> virtstore.Changed:
    verb, size = line.split()
    image = host.image(str(path))
    change = image.resize if verb == "resize" else image.shrinkfs
    return change(size, dry_run=dry_run)


def fresh(images: dict[str, Made], layout: str, line: str, root: Path) -> Made:
    made = images[layout]._replace(path=root / "x.img")
    shutil.copyfile(images[layout].path, made.path)
    return made


def killed_after(delay: float, made: Made, line: str) -> bool:
    """Whether the agent died before it had answered."""
    with virtstore.connect(config=str(configuration(made.path.parent))) as host:
        timer = threading.Timer(delay, agent_of(host).kill)
        timer.start()
        try:
            run(host, line, made.path)
            return False
        except virtstore.ConnectionFailed:
            return True
        finally:
            timer.join()


def wait_for_tools(survivor: virtstore.Host, line: str, path: Path) -> None:
    """Until nobody has the image: a tool that was left holds its lock."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            run(survivor, line, path, dry_run=True)
            return
        except virtstore.InUse:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("layout", ["bare", "gpt"])
@pytest.mark.parametrize("line", COMMANDS)
def test_a_resize_that_was_killed_loses_nothing_and_is_finished_by_the_same_command(
    images: dict[str, Made], root: Path, survivor: virtstore.Host, line: str, layout: str
) -> None:
    made = fresh(images, layout, line, root)
    started = time.monotonic()
    whole = run(survivor, line, made.path)
    duration = time.monotonic() - started
    assert whole.changed
    check(made)
    moments = random.Random(f"{line} {layout}")
    died = 0
    for _ in range(KILLS):
        made = fresh(images, layout, line, root)
        died += killed_after(moments.uniform(0, duration), made, line)
        wait_for_tools(survivor, line, made.path)
        check_files(made)
        again = run(survivor, line, made.path)
        assert again.size == whole.size == made.path.stat().st_size
        assert again.filesystem
        assert whole.filesystem
        assert abs(again.filesystem.size - whole.filesystem.size) < MIB
        check(made)
    assert died, f"no moment of {duration:.1f} s was early enough"
    print(f"{line}, {layout}: {died} of {KILLS} died within {duration:.2f} s")
