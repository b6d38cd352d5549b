"""kill -9 of the agent, or of the client, in the middle of `backup` with a base and rules, and of
`prune`: whatever has a backup's name is a whole one, the newest of an image is never lost, and the
next run clears up."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.tools import kills
from tests.tools.ext_images import MIB, TORTURE
from tests.tools.resize_images import configuration, write_configuration
from tests.warm import COMMAND

import virtstore

MOMENTS: Final = 50 if TORTURE else 2
KEEP: Final = virtstore.Keep(last=2)
_SIZE: Final = 8 * MIB
#: Backups of each image, of which `prune` removes all but two.
_MANY: Final = 9

#: Does something, and is killed after so much work, unless that is None.
Kill = Callable[[int | None], kills.Ended]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    for directory in (root, root / "images", root / "backups"):
        directory.mkdir(mode=0o700)
    for name in ("web.img", "db.img"):
        (root / "images" / name).write_bytes(os.urandom(_SIZE))
    write_configuration(root)
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(root)))
    return root


def night(root: Path) -> list[virtstore.BackedUp]:
    with virtstore.connect(config=str(configuration(root))) as here:
        return backed_up(here, root)


def backed_up(here: virtstore.Host, root: Path) -> list[virtstore.BackedUp]:
    images = [here.image(str(root / "images"))]
    return virtstore.backup(images, here.image(str(root / "backups")), keep=KEEP)


def pruned(here: virtstore.Host, root: Path) -> virtstore.Pruned:
    return here.prune(str(root / "backups"), KEEP)


def of_agent(root: Path, act: Callable[[virtstore.Host, Path], object]) -> Kill:
    return lambda after: kills.run(
        configuration(root), lambda here: act(here, root), "agent", after
    )


def of_client(*words: object) -> Kill:
    argv = [sys.executable, "-c", COMMAND, *map(str, words), "--keep-last", "2"]
    return lambda after: kills.run_command(argv, after)


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


def left_in(root: Path) -> int:
    """How many files there are, but for empty ones: a kill may leave such a one, which no listing
    shows."""
    return sum(path.stat().st_size > 0 for path in (root / "backups").iterdir())


def begins_at(root: Path, victim: str) -> int:
    """The work that is done before anything is written: a client reads itself as well."""
    if victim == "agent":
        return 1
    argv = [sys.executable, "-c", COMMAND, "list", str(root / "backups")]
    return kills.run_command(argv, None).work * 9 // 10


@pytest.mark.parametrize("victim", ["agent", "client"])
def test_whatever_has_a_backups_name_is_whole_and_the_newest_is_never_lost(
    root: Path, victim: str
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    directories = root / "images", root / "backups"
    kill = of_agent(root, backed_up) if victim == "agent" else of_client("backup", *directories)
    night(root)
    begin, work = begins_at(root, victim), kill(None).work
    killed = 0
    for moment in range(MOMENTS):
        write_a_little(root, chance)
        before = whole(root)
        after = chance.randrange(begin, work)
        killed += kill(after).killed
        there = whole(root)
        told = f"seed {seed}, moment {moment}, after {after} of {work}"
        for name in before:
            assert there[name], told
            assert there[name][-1] >= before[name][-1], told
    print(f"{killed} of {MOMENTS} killed, seed {seed}")
    assert killed
    done = night(root)
    assert [each.error for each in done] == [None, None]
    assert all(each.base for each in done)
    assert {name: len(paths) for name, paths in whole(root).items()} == {"db": 2, "web": 2}
    assert left_in(root) == 4
    with virtstore.connect(config=str(configuration(root))) as here:
        for name, paths in whole(root).items():
            virtstore.restore(here.image(str(paths[-1])), here.image(f"{root}/{name}.img"))
            restored = (root / f"{name}.img").read_bytes()
            assert restored == (root / "images" / f"{name}.img").read_bytes()


@pytest.mark.parametrize("victim", ["agent", "client"])
def test_a_prune_that_was_killed_took_nothing_that_was_to_stay(root: Path, victim: str) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    backups = root / "backups"
    kill = of_agent(root, pruned) if victim == "agent" else of_client("prune", backups)
    night(root)
    made = {name: path.name for name, (path,) in whole(root).items()}
    older = [f"{year}-01-01T000000Z.img.zst" for year in range(2000, 2000 + _MANY - 1)]

    def begin() -> None:
        for name, newest in made.items():
            for each in older:
                shutil.copyfile(backups / newest, backups / f"{name}.{each}")

    begin()
    first, work = begins_at(root, victim), kill(None).work
    killed = midway = 0
    for moment in range(MOMENTS):
        begin()
        after = chance.randrange(first, work)
        killed += kill(after).killed
        told = f"seed {seed}, moment {moment}, after {after} of {work}"
        counts = []
        for name, paths in whole(root).items():
            names = [path.name for path in paths]
            begun = [*(f"{name}.{each}" for each in older), made[name]]
            assert names[-2:] == begun[-2:], told
            assert names == begun[-len(names) :], told  # the oldest go first
            counts.append(len(names))
        midway += 4 < sum(counts) < 2 * _MANY
    print(f"{killed} of {MOMENTS} killed, {midway} midway, seed {seed}")
    assert killed
    with virtstore.connect(config=str(configuration(root))) as here:
        pruned(here, root)
    assert [len(paths) for paths in whole(root).values()] == [2, 2]
    assert left_in(root) == 4
