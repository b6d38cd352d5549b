"""Each feature of mkfs: the file system grows and shrinks whole, or is refused untouched."""

from __future__ import annotations

import os
import struct
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
)

from virtstore.errors import Unsupported
from virtstore.filesystems.ext import Ext

MADE = 24 * MIB
IMAGE = 40 * MIB

WORKS = (
    "orphan_file",
    "casefold",
    "encrypt",
    "verity",
    "metadata_csum_seed",
    "inline_data",
    "64bit",
    "^64bit",
    "^flex_bg",
    "^extent,^64bit",
    "^metadata_csum,uninit_bg",
    "^metadata_csum,^uninit_bg",
    "sparse_super2",
    "meta_bg,^resize_inode",
    "^resize_inode",
    "ea_inode",
    "large_dir",
    "fast_commit",
    "^has_journal",
    "quota",
    "quota,project",
)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(200, most=400) as tree:
        yield tree


@pytest.mark.parametrize("features", WORKS)
def test_one_with_it_shrinks_and_grows_with_its_files(
    tmp_path: Path, tree: Tree, features: str
) -> None:
    path = tmp_path / "image"
    # mke2fs does not count the files that it copies into one with quotas.
    contents = () if "quota" in features else ("-d", str(tree.root))
    mke2fs(path, "-t", "ext4", "-O", features, *contents, made=MADE, size=IMAGE)
    with opened(path) as device:
        files = files_in(device)  # debugfs pads those that lie in their inodes with zeros
        assert len(files) == (len(tree.files) if contents else 0)
        small = Ext().shrink(device, None)
        assert small.size < MADE
        os.ftruncate(device.fd, small.size)
        os.ftruncate(device.fd, IMAGE)
        fsck(device)
        assert Ext().grow(device).size > MADE
        fsck(device)
        assert files_in(device) == files


def test_stable_inodes_grow_and_are_never_renumbered_by_a_shrink(
    tmp_path: Path, tree: Tree
) -> None:
    path = tmp_path / "image"
    features = ("-O", "encrypt,stable_inodes", "-d", str(tree.root))
    mke2fs(path, "-t", "ext4", *features, made=MADE, size=IMAGE)
    with opened(path) as device:
        before = fingerprint(device)
        assert Ext().minimum(device) is None
        with pytest.raises(Unsupported, match="stable_inodes"):
            Ext().shrink(device, 16 * MIB)
        assert fingerprint(device) == before
        assert Ext().grow(device).changed
        fsck(device)
        assert files_in(device) == tree.files


def test_bigalloc_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mke2fs(path, "-t", "ext4", "-O", "bigalloc", "-C", "16384", made=MADE, size=IMAGE)
    with opened(path) as device:
        before = fingerprint(device)
        assert Ext().minimum(device) is None
        for change in (Ext().grow, Ext().shrink):
            with pytest.raises(Unsupported, match="bigalloc"):
                change(device, 30 * MIB)
        assert fingerprint(device) == before


@pytest.mark.parametrize("field", [0x5C, 0x60, 0x64], ids=["compat", "incompat", "ro_compat"])
@pytest.mark.parametrize("bit", [19, 23, 30])
def test_what_a_newer_mkfs_invents_is_refused_untouched(
    tmp_path: Path, field: int, bit: int
) -> None:
    path = tmp_path / "image"
    mke2fs(path, "-t", "ext4", "-O", "^metadata_csum", made=MADE, size=IMAGE)
    with opened(path) as device:
        (bits,) = struct.unpack("<I", os.pread(device.fd, 4, 1024 + field))
        os.pwrite(device.fd, struct.pack("<I", bits | 1 << bit), 1024 + field)
        before = fingerprint(device)
        with pytest.raises(Unsupported, match="e2fsprogs is too old"):
            Ext().shrink(device, None)
        assert fingerprint(device) == before


@pytest.mark.torture  # 20 s of waiting
def test_multiple_mount_protection_stays_on(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mke2fs(path, "-t", "ext4", "-O", "mmp", made=MADE, size=IMAGE)
    with opened(path) as device:
        assert Ext().shrink(device, 16 * MIB).size == 16 * MIB
        fsck(device)
        (bits,) = struct.unpack("<I", os.pread(device.fd, 4, 1024 + 0x60))
        assert bits & 0x100
