"""XFS and Btrfs that are not to be resized here: refused, and not a byte of them changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Unsafe, Unsupported
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.superblock import filesystem_size

from ...waiting import until
from .mounts import (
    FILESYSTEMS,
    MADE,
    SIZE,
    add_unknown_feature,
    block_device,
    check_clean,
    check_whole,
    fingerprint,
    image,
    make,
    make_tree,
    mounted,
    nothing_is_left,
    spoil_root,
)
from .shell import MIB, sh

XFS, BTRFS = FILESYSTEMS["xfs"], FILESYSTEMS["btrfs"]
KINDS = pytest.mark.parametrize("kind", FILESYSTEMS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), 100)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with image(tmp_path / "image") as device:
        yield device
    until(nothing_is_left, "all mounts and loop devices are gone")


def test_a_copy_of_a_mounted_btrfs_is_refused_and_neither_is_touched(
    device: Device, tmp_path: Path, tree: Path
) -> None:
    make(device, "btrfs", tree)
    sh(f"cp --sparse=always {os.readlink(device.path)} {tmp_path}/copy")
    with (
        block_device(device) as node,
        mounted(node, ""),
        (tmp_path / "copy").open("r+b") as file,
    ):
        copy = Device(file.fileno(), SIZE)
        before = fingerprint(copy)
        with pytest.raises(Unsafe, match="same UUID"):
            BTRFS.grow(copy)
        with pytest.raises(Unsafe, match="same UUID"):
            BTRFS.shrink(copy, None)
        assert fingerprint(copy) == before
        sh(f"diff -r --no-dereference {tree} /mnt/fs")
    check_whole(device, "btrfs", tree)
    (tmp_path / "copy").unlink()


def test_one_device_of_a_btrfs_of_two_is_refused(device: Device, tmp_path: Path) -> None:
    with image(tmp_path / "other", MADE) as other:
        with block_device(device) as first, block_device(other) as second:
            sh(f"mkfs.btrfs -q {first} {second}")
        before = fingerprint(device)
        for one in (device, other):
            larger = Device(one.fd, one.size)
            with pytest.raises(Unsupported, match="spread over 2 devices"):
                BTRFS.shrink(larger, 280 * MIB)
        assert fingerprint(device) == before


def test_a_seed_device_is_refused(device: Device) -> None:
    make(device, "btrfs", None)
    sh(f"btrfstune -S 1 {os.readlink(device.path)}")
    before = fingerprint(device)
    with pytest.raises(Unsupported, match="seed"):
        BTRFS.grow(device)
    assert fingerprint(device) == before


@pytest.mark.parametrize("option", ["-l logdev={}", "-r rtdev={}"])
def test_an_xfs_with_a_part_elsewhere_is_refused(
    device: Device, tmp_path: Path, option: str
) -> None:
    with image(tmp_path / "other", 100 * MIB) as other:
        with block_device(other) as elsewhere:
            make(device, "xfs", None, "-m", "reflink=0,rmapbt=0", option.format(elsewhere))
        with pytest.raises(Unsupported, match="on another device"):
            XFS.grow(device)
        assert filesystem_size("xfs", device) == MADE


@KINDS
def test_damage_is_refused_untouched_with_the_checkers_own_words(device: Device, kind: str) -> None:
    make(device, kind, None)
    if kind == "xfs":
        os.pwrite(device.fd, b"\xff" * 64, 512 + 16)  # the first group's free space
    else:
        spoil_root(device)
    before = fingerprint(device)
    with pytest.raises(Corrupt, match=r"was not \w+ \((Metadata CRC|checksum verify)"):
        FILESYSTEMS[kind].grow(device)
    if kind == "btrfs":
        with pytest.raises(Corrupt, match="was not resized"):
            BTRFS.shrink(device, None)
    assert fingerprint(device) == before


def test_an_xfs_with_a_feature_of_a_newer_kernel_is_unsupported(device: Device) -> None:
    make(device, "xfs", None)
    add_unknown_feature(device)
    before = fingerprint(device)
    with pytest.raises(Unsupported, match="newer"):
        XFS.grow(device)
    assert fingerprint(device) == before


@KINDS
def test_a_file_system_cut_off_with_its_image_is_refused(tmp_path: Path, kind: str) -> None:
    with image(tmp_path / "image") as device:
        make(device, kind, None)
        os.ftruncate(device.fd, 310 * MIB)
        with pytest.raises(Corrupt, match="the image was cut"):
            FILESYSTEMS[kind].grow(Device(device.fd, 310 * MIB))


def test_a_last_group_too_small_to_use_is_left_out_of_an_xfs(device: Device) -> None:
    make(device, "xfs", None)
    grown = XFS.grow(device, MADE + 8192)
    assert grown == Resized(MADE, changed=False)
    check_clean(device, "xfs")
