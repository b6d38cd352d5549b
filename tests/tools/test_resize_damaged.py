"""Images with random damage: info answers, and a resize succeeds with a clean check, or refuses
and leaves every byte as it was."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB, TORTURE, new_tree, opened
from tests.tools.resize_images import (
    LAYOUTS,
    MADE,
    Layout,
    Made,
    check_place,
    configuration,
    make_filesystem,
    make_image,
    new_root,
    told,
)
from tests.waiting import PATIENCE

from virtstore.filesystems.extsuper import read_superblock

VARIANTS = 500 if TORTURE else 20
COMMANDS = ("growfs", "shrinkfs 16M", "resize 40M", "resize 26M", "resize minimum")
#: The exit codes of a refusal that says why; 1 is of an operation that failed.
REFUSED = {2, 3, 8, 9, 11}


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Made]]:
    with new_root() as root, new_tree(100) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        yield {
            name: make_image(root.with_name(name), layout, "ext4", source, contents)
            for name, layout in LAYOUTS.items()
        }


def places(layout: Layout) -> list[tuple[int, int]]:
    """Where the table and the file system's metadata are, each (start, end)."""
    inside = layout.start
    found = [(inside + 1024, inside + 2048), (inside + 2048, inside + 4096), (inside, inside + MIB)]
    if layout.script:
        found += [(440, 512), (512, 604), (1024, 1024 + 256), (512, 34 * 512)]
        found += [(layout.size - 33 * 512, layout.size), (layout.size - 512, layout.size - 420)]
    if layout.number > 4:
        found += [(3 * MIB + 440, 3 * MIB + 512)] * 3
    return found


def damage(path: Path, layout: Layout, chance: random.Random) -> None:
    with path.open("r+b") as image:
        for _ in range(chance.randrange(1, 4)):
            image.seek(chance.randrange(*chance.choice(places(layout))))
            image.write(chance.randbytes(chance.choice((1, 1, 4, 64))))


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_a_damaged_image_is_resized_whole_or_left_as_it_is(
    images: dict[str, Made], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    made = images[list(images)[seed % 4]]
    path = made.path.with_name("images") / "x.img"
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(path.parent)))
    path.write_bytes(made.path.read_bytes() + bytes(chance.choice((0, 4 * MIB))))
    damage(path, made.layout, chance)
    before = path.read_bytes()
    assert told("info", path)["size"] == len(before)
    assert path.read_bytes() == before
    verb, *words = chance.choice(COMMANDS).split()
    done = run(verb, path, *words)
    if done.returncode == 0:
        check_place(made._replace(path=path))
    elif path.read_bytes() != before:
        # Only where e2fsck had a journal to replay, or less to mend than it then found.
        assert path.stat().st_size == len(before)
        assert was_not_clean(before, made.layout, path)
    else:
        assert done.returncode in REFUSED, done.stdout


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = "from virtstore.cli.start import main; main()"
    argv = [sys.executable, "-c", command, *map(str, arguments), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in done.stdout + done.stderr
    assert "defect" not in done.stdout + done.stderr
    return done


def was_not_clean(before: bytes, layout: Layout, path: Path) -> bool:
    path.write_bytes(before)
    with opened(path) as device:
        found = read_superblock(device.part(layout.start, MADE))
    return found is not None and not found.clean
