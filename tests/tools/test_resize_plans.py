"""A dry run and the real run give the same numbers: what one plans, the other does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.tools.ext_images import MIB, Files, new_tree
from tests.tools.resize_images import (
    LAYOUTS,
    Layout,
    check,
    configuration,
    make_filesystem,
    make_image,
    new_root,
)

import virtstore
from virtstore.model import Changed

KINDS = ("ext4", "ntfs", "swap")
#: A file system has whole blocks, NTFS leaves a sector out, and ext a last group that is too short.
LESS = MIB


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with new_root() as root:
        yield root


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, tuple[Path, Files]]:
    """A filled file system of each kind."""
    made = {}
    with ExitStack() as stack:
        for kind in KINDS:
            tree = stack.enter_context(new_tree(60 if kind == "ntfs" else 300))
            path = root.with_name(kind)
            made[kind] = (path, make_filesystem(path, kind, tree))
    return made


Change = Callable[[virtstore.Image, bool], Changed]
CHANGES: dict[str, Change] = {
    "resize 48M": lambda image, dry: image.resize("48M", dry_run=dry),
    "shrinkfs 21M+": lambda image, dry: image.shrinkfs(21 * MIB + 512, dry_run=dry),
    "growfs 26M": lambda image, dry: image.growfs("26M", dry_run=dry),
    "growfs": lambda image, dry: image.growfs(dry_run=dry),
    "resize 40M+": lambda image, dry: image.resize(40 * MIB + 512 * 77, dry_run=dry),
    "shrinkfs minimum": lambda image, dry: image.shrinkfs("minimum", dry_run=dry),
    "resize minimum": lambda image, dry: image.resize("minimum", dry_run=dry),
}


class Numbers(NamedTuple):
    size: int
    partition: int | None
    filesystem: str
    inside: int


def numbers(told: Changed) -> Numbers:
    assert told.filesystem
    assert told.size is not None
    return Numbers(told.size, told.partition, told.filesystem.type, told.filesystem.size)


ROWS = [(kind, "gpt") for kind in KINDS]
ROWS += [("ext4", "bare"), ("ext4", "logical"), ("swap", "bare")]
LONG = [
    pytest.param(*row, marks=pytest.mark.torture) for row in (("ntfs", "bare"), ("ext4", "mbr"))
]


@pytest.mark.parametrize(("kind", "layout"), [*ROWS, *LONG])
def test_a_dry_run_gives_the_numbers_of_the_real_run(
    root: Path, sources: dict[str, tuple[Path, Files]], kind: str, layout: str
) -> None:
    made = make_image(root / "x.img", LAYOUTS[layout], kind, *sources[kind])
    with virtstore.connect(config=str(configuration(root))) as host:
        image = host.image(str(made.path))
        for name, change in CHANGES.items():
            before = made.fingerprint
            dry = change(image, True)
            assert made.fingerprint == before
            real = change(image, False)
            planned, done = numbers(dry), numbers(real)
            place = check(made)
            [size] = re.findall(r"partition \d+ to (\d+) bytes", "\n".join(dry.plan)) or [
                place.size
            ]
            assert planned[1:3] == done[1:3], name
            assert dry.changed or not real.changed, name
            if "minimum" in name:  # may go further than the file system can tell beforehand
                assert done.size <= planned.size, name
                assert done.inside <= planned.inside, name
                assert place.size <= int(size), name
            else:
                assert done.size == planned.size, name
                assert planned.inside - LESS < done.inside <= planned.inside, name
                assert place.size == int(size), name


def test_what_begins_where_old_tools_put_it_is_as_small_as_it_gets_the_first_time(
    root: Path, sources: dict[str, tuple[Path, Files]]
) -> None:
    script = "label: dos\nlabel-id: 0x11223344\nstart=63, size=49152, type=83\n"
    layout = Layout(script, number=1, start=63 * 512)
    made = make_image(root / "x.img", layout, "ext4", *sources["ext4"])
    with virtstore.connect(config=str(configuration(root))) as host:
        image = host.image(str(made.path))
        least = image.resize("minimum")
        assert least.changed
        check(made)
        again = image.resize("minimum")
        assert (again.changed, again.size) == (False, least.size)
