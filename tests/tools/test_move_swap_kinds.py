"""resize --move-swap with other roots than ext before the swap partition: NTFS, and what only the
kernel resizes, mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.tools.ext_images import MIB, Tree, new_tree, tool
from tests.tools.partitioned import WINDOWS, seen, sfdisk, swap_is_whole
from tests.tools.resize_images import (
    MADE,
    Layout,
    check_files,
    make_filesystem,
    make_image,
    new_root,
    write_configuration,
)
from tests.tools.swap_images import SECRET, SWAPPED, put, resized, swap_area

from virtstore.model import Changed

#: Bytes of the smallest XFS that mkfs makes, and some more.
LARGE: Final = 304 * MIB
_DISK: Final = (
    "label: gpt\nstart=1MiB,size={size}MiB,type={kind}\nstart={end}MiB,size=4MiB,type=S\n"
)
#: Does $2 in a file system in a partition at byte 1 MiB of the image $1, mounted for nobody else.
_MOUNTED: Final = """set -e
mount -o loop,offset=1048576 "$1" /mnt
cd /mnt
eval "$2"
cd /
umount /mnt
"""


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(25) as tree:
        yield tree


@pytest.fixture
def image() -> Iterator[Path]:
    with new_root() as root:
        write_configuration(root, "[limits]\nmount_guest_filesystems = true\n")
        yield root / "x.img"


def script(kind: str, size: int) -> str:
    return _DISK.format(size=size // MIB, kind=kind, end=size // MIB + 1)


def check_moved(image: Path, done: Changed) -> None:
    """The swap partition is whole, at the end, and what was swapped to it is nowhere else."""
    assert done.moved
    assert done.size == image.stat().st_size
    assert done.size - 2 * MIB < done.moved.start + SWAPPED <= done.size
    swap_is_whole(image, 2)
    assert b"No problems found" in tool("sgdisk", "-v", str(image))
    data = image.read_bytes()
    assert SECRET not in data[: done.moved.start] + data[done.moved.start + SWAPPED :]


def test_swap_behind_ntfs(image: Path, tree: Tree) -> None:
    source = image.with_name("source")
    contents = make_filesystem(source, "ntfs", tree)
    layout = Layout(script(WINDOWS, MADE), number=1, start=MIB, behind=SWAPPED + MIB)
    made = make_image(image, layout, "ntfs", source, contents)
    put(image, MIB + MADE, swap_area(source))
    for size in ("44M", "minimum", "40M"):
        check_moved(image, resized(image, size))
        check_files(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_swap_behind_what_only_the_kernel_resizes(image: Path, tree: Tree, kind: str) -> None:
    source = image.with_name("source")
    with image.open("wb") as file:
        file.truncate(LARGE + 6 * MIB)
    sfdisk(image, script("L", LARGE))
    with source.open("wb") as file:
        file.truncate(LARGE)
    tool(f"mkfs.{kind}", "-q", str(source))
    tool("dd", f"if={source}", f"of={image}", "bs=1M", "seek=1", "conv=sparse,notrunc")
    put(image, MIB + LARGE, swap_area(source))
    mounted(image, f"cp -a {tree.root} files")
    for size in ("340M", "minimum", "330M" if kind == "btrfs" else "360M"):
        done = resized(image, size)
        if (kind, size) == ("xfs", "minimum"):
            assert "XFS cannot shrink" in done.warnings[0]
            assert done.moved is None
        else:
            check_moved(image, done)
        front, _ = seen(image).partitions
        assert front.filesystem
        assert front.filesystem.type == kind
        mounted(image, f"diff -r {tree.root} files")


def mounted(image: Path, work: str) -> None:
    argv = ["unshare", "--mount", "sh", "-c", _MOUNTED, "sh", str(image), work]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
