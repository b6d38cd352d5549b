"""kill -9 of the agent in the middle of `backup` with a base and rules: whatever has a backup's
name is a whole one, the newest of an image is never lost, and the next run clears up."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import pytest
from tests.tools import kills
from tests.tools.ext_images import MIB, TORTURE
from tests.tools.resize_images import configuration, write_configuration

import virtstore

MOMENTS: Final = 50 if TORTURE else 4
KEEP: Final = virtstore.Keep(last=2)
_SIZE: Final = 8 * MIB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for directory in (root, root / "images", root / "backups"):
        directory.mkdir(mode=0o700)
    for name in ("web.img", "db.img"):
        (root / "images" / name).write_bytes(os.urandom(_SIZE))
    write_configuration(root)
    return root


def night(root: Path) -> list[virtstore.BackedUp]:
    with virtstore.connect(config=str(configuration(root))) as here:
        return backed_up(here, root)


def backed_up(here: virtstore.Host, root: Path) -> list[virtstore.BackedUp]:
    images = [here.image(str(root / "images"))]
    return virtstore.backup(images, here.image(str(root / "backups")), keep=KEEP)


def write_a_little(root: Path, random_: random.Random) -> None:
    for image in (root / "images").iterdir():
        with image.open("r+b") as file:
            file.seek(random_.randrange(_SIZE - MIB))
            file.write(random_.randbytes(MIB // 10))


def whole(root: Path) -> dict[str, list[Path]]:
    """The backups of each image, the oldest first, once each is shown to be whole."""
    found: dict[str, list[Path]] = {"db": [], "web": []}
    with virtstore.connect(config=str(configuration(root))) as here:
        for path in sorted((root / "backups").glob("*.img.zst")):
            here.image(str(path)).verify()
            found[path.name.partition(".")[0]].append(path)
    return found


def test_whatever_has_a_backups_name_is_whole_and_the_newest_is_never_lost(root: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    night(root)
    work = kills.run(configuration(root), lambda here: backed_up(here, root), "agent", None).work
    killed = 0
    for moment in range(MOMENTS):
        write_a_little(root, chance)
        before = whole(root)
        after = chance.randrange(1, work)
        ended = kills.run(configuration(root), lambda here: backed_up(here, root), "agent", after)
        killed += ended.killed
        there = whole(root)
        told = f"seed {seed}, moment {moment}, after {after} of {work}"
        for name in before:
            assert there[name], told
            assert there[name][-1] >= before[name][-1], told
    assert killed
    done = night(root)
    assert [each.error for each in done] == [None, None]
    assert {name: len(paths) for name, paths in whole(root).items()} == {"db": 2, "web": 2}
    assert len([*(root / "backups").iterdir()]) == 4
    with virtstore.connect(config=str(configuration(root))) as here:
        for name, paths in whole(root).items():
            virtstore.restore(here.image(str(paths[-1])), here.image(f"{root}/{name}.img"))
            restored = (root / f"{name}.img").read_bytes()
            assert restored == (root / "images" / f"{name}.img").read_bytes()
