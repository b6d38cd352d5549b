"""An ext file system inside an image is resized, and not a byte around it is touched."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.ext_images import (
    MIB,
    Tree,
    files_in,
    fingerprint,
    fsck,
    mke2fs,
    new_tree,
    opened,
    tool,
)

from virtstore.errors import Corrupt, Unsafe, Unsupported, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.ext import Ext

MADE = 24 * MIB
ROOM = 40 * MIB
BEHIND = 20 * MIB
NOISE = random.Random(5).randbytes(BEHIND)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(500) as tree:
        yield tree


def _partition(path: Path, start: int, *options: str) -> None:
    """A file system in the first `MADE` of `ROOM` bytes from `start`, in an image of noise."""
    alone = path.with_suffix(".alone")
    mke2fs(alone, *options, made=MADE, size=MADE)
    path.write_bytes(NOISE[:start] + alone.read_bytes() + NOISE[: ROOM - MADE] + NOISE)
    alone.unlink()


def _assert_nothing_around_is_touched(device: Device) -> None:
    assert os.fstat(device.fd).st_size == device.start + ROOM + BEHIND
    assert os.pread(device.fd, device.start, 0) == NOISE[: device.start]
    assert os.pread(device.fd, BEHIND, device.start + ROOM) == NOISE


# ext2 and ext3 have no checksums of groups, so that new inode tables are zeroed at once.
@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("ext2", MIB),
        ("ext3", MIB),
        ("ext4", MIB),
        ("ext3", 63 * 512),
        ("ext4", 7 * MIB + 512),
    ],
)
def test_it_grows_and_shrinks_with_its_files_and_nothing_around_it_changes(
    tmp_path: Path, tree: Tree, kind: str, start: int
) -> None:
    path = tmp_path / "image"
    _partition(path, start, "-t", kind, "-b", "1024", "-d", str(tree.root))
    with opened(path) as image:
        device = image.part(start, ROOM)
        assert Ext().grow(device) == Resized(ROOM, changed=True)
        _assert_nothing_around_is_touched(device)
        fsck(device)
        minimum = Ext().minimum(device)
        assert minimum
        small = Ext().shrink(device, None).size
        assert sum(map(len, tree.files.values())) < small <= minimum
        _assert_nothing_around_is_touched(device)
        os.pwrite(device.fd, NOISE[: ROOM - small], start + small)
        fsck(device)
        assert files_in(device) == tree.files
        assert Ext().grow(device).changed
        _assert_nothing_around_is_touched(device)
        fsck(device)
        assert files_in(device) == tree.files


def test_it_cannot_grow_into_what_follows_or_shrink_below_its_files(
    tmp_path: Path, tree: Tree
) -> None:
    path = tmp_path / "image"
    _partition(path, MIB, "-t", "ext4", "-d", str(tree.root))
    with opened(path) as image:
        device = image.part(MIB, ROOM)
        with pytest.raises(UsageError, match=str(ROOM)):
            Ext().grow(device, ROOM + 1)
        with pytest.raises(Unsafe, match="smallest"):
            Ext().shrink(device, MIB)
        with pytest.raises(Corrupt, match="the image was cut"):
            Ext().shrink(image.part(MIB, 20 * MIB), None)
        _assert_nothing_around_is_touched(device)


def test_damage_in_a_partition_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "image"
    _partition(path, MIB, "-t", "ext4", "-O", "^metadata_csum")
    with opened(path) as image:
        device = image.part(MIB, ROOM)
        tool("debugfs", "-w", "-R", "clri <2>", f"{path}?offset={MIB}")
        before = fingerprint(device)
        with pytest.raises(Corrupt, match="Root inode is not a directory"):
            Ext().shrink(device, None)
        assert fingerprint(device) == before


def test_multiple_mount_protection_is_unsupported_in_a_partition(tmp_path: Path) -> None:
    path = tmp_path / "image"
    _partition(path, MIB, "-t", "ext4", "-O", "mmp")
    with opened(path) as image:
        device = image.part(MIB, ROOM)
        before = fingerprint(device)
        assert Ext().minimum(device) is None
        with pytest.raises(Unsupported, match="multiple-mount protection"):
            Ext().grow(device)
        assert fingerprint(device) == before
