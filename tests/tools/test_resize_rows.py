"""Every kind of file system, bare and in each kind of table: after each resize every file is
there, its own checker is content, and nothing around it has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB, Files, new_tree
from tests.tools.resize_images import (
    KINDS,
    LAYOUTS,
    Made,
    check,
    configuration,
    make_filesystem,
    make_image,
    new_root,
    told,
)

import virtstore
from virtstore.model import ResizedFilesystem

FILES = {"ext4": 2500, "ntfs": 60}
ROWS = [(kind, layout) for kind in KINDS for layout in ("bare", "mbr", "gpt")]
ROWS.append(("ext4", "logical"))
#: Each kind is in two others, and ext4 in all of them.
LONG = [("ext2", "bare"), ("ext3", "mbr"), ("ntfs", "mbr"), ("swap", "gpt")]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with new_root() as root:
        yield root


@pytest.fixture(scope="module")
def host(root: Path) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(configuration(root))) as host:
        yield host


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, tuple[Path, Files]]:
    """A filled file system of each kind."""
    made = {}
    with ExitStack() as stack:
        for kind in KINDS:
            tree = stack.enter_context(new_tree(FILES.get(kind, 300)))
            path = root.with_name(kind)
            made[kind] = (path, make_filesystem(path, kind, tree))
    return made


def image(root: Path, sources: dict[str, tuple[Path, Files]], kind: str, layout: str) -> Made:
    return make_image(root / f"{kind}-{layout}.img", LAYOUTS[layout], kind, *sources[kind])


@pytest.mark.parametrize(
    ("kind", "layout"),
    [pytest.param(*row, marks=[pytest.mark.torture] * (row in LONG)) for row in ROWS],
)
def test_every_file_stays_through_all_resizes(
    root: Path,
    host: virtstore.Host,
    sources: dict[str, tuple[Path, Files]],
    kind: str,
    layout: str,
) -> None:
    made = image(root, sources, kind, layout)
    start, behind = made.layout.start, made.layout.behind
    at = host.image(str(made.path))
    check(made)

    def fills(found: ResizedFilesystem | None, room: int) -> bool:
        assert found
        assert found.type == kind
        return room - MIB < found.size <= room

    grown = at.resize("48M")
    assert (grown.size, grown.changed, made.path.stat().st_size) == (48 * MIB, True, 48 * MIB)
    room = check(made).size
    assert fills(grown.filesystem, room)
    assert 0 <= 48 * MIB - start - behind - room < MIB

    least = at.resize("minimum")
    assert made.path.stat().st_size == least.size
    assert least.filesystem
    assert least.size < (least.filesystem.size + start + behind) + MIB
    assert least.size < 48 * MIB - 20 * MIB
    check(made)

    assert at.resize("44M").size == 44 * MIB
    room = check(made).size

    shrunk = at.shrinkfs("20M")
    assert (shrunk.size, shrunk.changed) == (44 * MIB, True)
    assert fills(shrunk.filesystem, 20 * MIB)
    assert check(made).size == (20 * MIB if start else 44 * MIB)

    assert fills(at.growfs("26M").filesystem, 26 * MIB)
    assert check(made).size == (26 * MIB if start else 44 * MIB)
    assert fills(at.growfs().filesystem, room)
    assert check(made).size == room
    assert not at.growfs().changed
    made.path.unlink()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [30 * MIB + 512 * 77, 40 * MIB - 1])
def test_an_image_shrinks_to_any_size_and_ends_with_its_table(
    root: Path,
    host: virtstore.Host,
    sources: dict[str, tuple[Path, Files]],
    layout: str,
    size: int,
) -> None:
    made = image(root, sources, "ext3", layout)
    at = host.image(str(made.path))
    at.resize("50M")
    assert at.resize(size).size == size
    assert made.path.stat().st_size == size
    check(made)
    made.path.unlink()


def test_another_partition_grows_into_the_space_behind_it(
    root: Path, host: virtstore.Host, sources: dict[str, tuple[Path, Files]]
) -> None:
    made = image(root, sources, "ext4", "gpt")
    host.image(str(made.path)).shrinkfs("20M", partition=2)
    assert check(made).size == 20 * MIB
    host.image(str(made.path)).growfs("23M", partition=2)
    assert check(made).size == 23 * MIB
    made.path.unlink()


def test_info_tells_the_minimum_of_a_file_system_in_a_partition_and_resize_keeps_to_it(
    root: Path,
    host: virtstore.Host,
    sources: dict[str, tuple[Path, Files]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(root)))
    made = image(root, sources, "ext4", "logical")
    before = made.fingerprint
    inside = {p["number"]: p["filesystem"] for p in told("info", made.path)["partitions"]}
    assert [inside[number] for number in (1, 2, 5)] == [None] * 3
    minimum = inside[6]["minimum"]
    assert sum(map(len, made.contents.values())) < minimum < inside[6]["size"]
    assert made.fingerprint == before
    done = host.image(str(made.path)).shrinkfs(minimum)
    assert done.filesystem
    assert done.filesystem.size <= minimum
    check(made)
    made.path.unlink()
