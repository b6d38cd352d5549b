"""ext file systems whose blocks and inodes resize2fs really moves: whole afterwards, and again."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.tools.ext_images import (
    MEMORY,
    MIB,
    Files,
    Tree,
    files_in,
    fingerprint,
    fsck,
    new_tree,
    opened,
    place,
    tool,
)
from tests.tools.resize_images import configuration, new_root, virtstore
from tests.tools.test_filesystems_ext_features import WORKS

from virtstore.errors import Corrupt, Unsafe
from virtstore.filesystems.base import Device
from virtstore.filesystems.ext import Ext
from virtstore.programs import find

MADE = 32 * MIB
LARGE = 300 * MIB
#: Without room for more of them behind the first's descriptors, which all else has to make.
SMALL_GROUPS = ("-b", "1024", "-g", "256")


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(300, most=120_000) as tree:
        yield tree


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory) / "image"


@contextmanager
def half_empty(
    path: Path, tree: Tree, features: str, *, start: int = 0, options: tuple[str, ...] = ()
) -> Iterator[Device]:
    """A file system in which every other file is left, so that those at its end have to move."""
    path.touch()
    os.truncate(path, start + MADE)
    with opened(path) as image:
        device = image.part(start, MADE)
        offset = ("-E", f"offset={start}") if start else ()
        tool("mke2fs", "-q", "-F", "-t", "ext4", *SMALL_GROUPS, "-O", features, *options, *offset,
             "-d", str(tree.root), str(path), f"{MADE >> 10}k")  # fmt: skip
        remove(device, [name for name in tree.files if int(name.partition("/f")[2]) % 2])
        yield device


def remove(device: Device, names: list[str]) -> None:
    """Without accounts of quotas, which e2fsck makes good."""
    debugfs(device, [f"rm {name}" for name in names])
    subprocess.run([find("e2fsck") or "", "-fp", place(device)], capture_output=True)
    fsck(device)


def debugfs(device: Device, commands: list[str]) -> bytes:
    program, text = find("debugfs") or "", "\n".join(commands).encode()
    argv = (program, "-w", "-f", "/dev/stdin", place(device))
    return subprocess.run(argv, input=text, capture_output=True, check=True).stdout


def resized_to(device: Device, size: int) -> Device:
    os.ftruncate(device.fd, device.start + size)
    return Device(device.fd, size, device.start)


def places(device: Device, files: Files) -> bytes:
    """Where the first block of each file lies, and the inodes of the first group."""
    table = re.search(rb"Inode table at \d+", tool("dumpe2fs", place(device)))
    assert table
    return table[0] + debugfs(device, [f"bmap {name} 0" for name in files])


def named_inode(device: Device, what: str) -> int:
    found = re.search(rf"{what} inode: +(\d+)", tool("dumpe2fs", "-h", place(device)).decode())
    assert found
    return int(found[1])


@pytest.mark.parametrize("start", [0, MIB], ids=["bare", "partition"])
@pytest.mark.parametrize("features", [f for f in WORKS if "resize_inode" not in f])
def test_one_with_it_is_whole_however_often_its_blocks_move(
    path: Path, tree: Tree, features: str, start: int
) -> None:
    with half_empty(path, tree, f"{features},^resize_inode", start=start) as device:
        files = files_in(device)
        assert len(files) == len(tree.files) // 2
        moved = []
        for step in ("shrink", "shrink", "grow", "shrink"):
            before = places(device, files)
            if step == "grow":
                device = resized_to(device, LARGE)
                assert Ext().grow(device).size > LARGE - MIB
            else:
                device = resized_to(device, Ext().shrink(device, None).size)
                assert device.size < MADE
            moved.append(before != places(device, files))
            fsck(device)
            assert files_in(device) == files
        assert (moved[0], moved[2]) == (True, True)


@pytest.mark.parametrize("grows", [True, False], ids=["grown", "shrunk"])
def test_an_orphan_file_that_a_resize_moved_which_then_was_killed_is_mended_by_the_next(
    path: Path, tree: Tree, grows: bool
) -> None:
    with half_empty(path, tree, "orphan_file,^resize_inode") as device:
        files = files_in(device)
        subprocess.run([find("e2fsck") or "", "-fp", path], capture_output=True)
        device = resized_to(device, LARGE)
        tool("resize2fs", str(path), "280M")
        said = subprocess.run([find("e2fsck") or "", "-fn", path], capture_output=True)
        assert b"Orphan file" in said.stdout
        done = Ext().grow(device, 280 * MIB) if grows else Ext().shrink(device, 280 * MIB)
        assert (done.size, done.changed) == (280 * MIB, False)
        fsck(device)
        assert files_in(device) == files


def test_one_with_other_damage_beside_that_is_refused_untouched(path: Path, tree: Tree) -> None:
    with half_empty(path, tree, "orphan_file,^resize_inode") as device:
        device = resized_to(device, LARGE)
        tool("resize2fs", str(path), "280M")
        debugfs(device, ["clri d0/f34"])
        before = fingerprint(device)
        for change in (Ext().grow, Ext().shrink):
            with pytest.raises(Corrupt, match="fails its check"):
                change(device, 280 * MIB)
        assert fingerprint(device) == before


@pytest.mark.parametrize(
    ("feature", "name"), [("orphan_file", "Orphan file"), ("quota,project", "Project quota")]
)
def test_an_inode_that_the_superblock_names_keeps_its_number(
    path: Path, feature: str, name: str
) -> None:
    """As one that was made later, where the first groups were full of files."""
    with new_tree(1500, most=10) as many, opened(_touched(path)) as image:
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^orphan_file,^flex_bg,^resize_inode", "-b",
             "1024", "-g", "1024", "-N", "4096", "-d", str(many.root), str(path))  # fmt: skip
        tool("tune2fs", "-O", feature, str(path))
        device = Device(image.fd, 64 * MIB)
        remove(device, [file for file in many.files if int(file.partition("/f")[2]) > 50])
        files, number = files_in(device), named_inode(device, name)
        assert number > 1024
        fewest = Ext().minimum(device)
        with pytest.raises(Unsafe, match=f"holds it is {fewest} bytes"):
            Ext().shrink(device, 8 * MIB)
        for _ in range(2):
            assert Ext().shrink(device, None).size == fewest
            fsck(device)
            assert (files_in(device), named_inode(device, name)) == (files, number)
        Ext().grow(device)
        fsck(device)
        assert files_in(device) == files


def _touched(path: Path) -> Path:
    path.touch()
    os.truncate(path, 64 * MIB)
    return path


def test_a_minimum_that_is_too_small_for_moving_things_about_is_not_insisted_on(
    path: Path, tree: Tree
) -> None:
    """resize2fs 1.47.0 says of this one that it fits in fewer blocks, and then finds no room."""
    with half_empty(path, tree, "^flex_bg,^resize_inode") as device:
        files = files_in(device)
        device = resized_to(device, LARGE)
        Ext().grow(device)
        assert Ext().shrink(device, None).size < MADE
        fsck(device)
        assert files_in(device) == files


def test_a_file_whose_extents_get_another_block_is_counted_right(path: Path, tree: Tree) -> None:
    options = ("-E", "orphan_file_size=4096")
    with half_empty(path, tree, "orphan_file,^resize_inode", options=options) as device:
        files = files_in(device)
        Ext().shrink(device, None)
        fsck(device)
        assert files_in(device) == files


def test_resize_of_one_with_an_orphan_file_in_a_partition_answers_0_however_often(
    tree: Tree,
) -> None:
    with new_root() as root:
        path = root / "x.img"
        with half_empty(path, tree, "orphan_file,^resize_inode", start=MIB) as device:
            files = files_in(device)
            script = b"label: dos\nstart=1MiB, size=32MiB, type=83\n"
            subprocess.run([find("sfdisk") or "", "-q", "--no-tell-kernel", "--wipe", "never",
                            path], input=script, check=True)  # fmt: skip
        for size in ("300M", "minimum", "minimum", "300M"):
            virtstore("resize", path, size, "--config", configuration(root))
            with opened(path) as image:
                fsck(image.part(MIB, image.size - MIB))
                assert files_in(image.part(MIB, image.size - MIB)) == files
