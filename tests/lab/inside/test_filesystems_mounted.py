"""XFS and Btrfs, resized mounted in a real kernel: every file stays, or nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.ext_images import TORTURE
from virtstore.errors import Unsafe, Unsupported, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.superblock import filesystem_size

from ...waiting import until
from .mounts import (
    FILESYSTEMS,
    MADE,
    SIZE,
    block_device,
    check_clean,
    check_whole,
    fingerprint,
    image,
    make,
    make_tree,
    mounted,
    nothing_is_left,
)
from .shell import MIB, sh

XFS, BTRFS = FILESYSTEMS["xfs"], FILESYSTEMS["btrfs"]
KINDS = pytest.mark.parametrize("kind", FILESYSTEMS)
#: Where a first partition begins.
START = MIB


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("many"), 600 if TORTURE else 300)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), 100)


@pytest.fixture(scope="module")
def volume() -> str:
    sh("vgcreate -qq vg0 /dev/ubda && lvcreate -qq -y -L 600M -n web vg0")
    return "/dev/vg0/web"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with image(tmp_path / "image") as device:
        yield device
    until(nothing_is_left, "all mounts and loop devices are gone")


# A partition is a file that does not begin at 0; on a volume, test_resize_volumes.py has the whole
# of it.
@pytest.fixture(
    params=["partition", *(pytest.param(p, marks=pytest.mark.torture) for p in ("file", "volume"))],
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    if request.param == "volume":
        path: str = request.getfixturevalue("volume")
        # As the agent has it.
        fd = os.open(path, os.O_RDWR | os.O_EXCL)
        yield Device(fd, SIZE)
        os.close(fd)
    else:
        start = START if request.param == "partition" else 0
        with image(tmp_path / "image", SIZE + 2 * start) as whole:
            yield whole.part(start, SIZE)
    until(nothing_is_left, "all mounts and loop devices are gone")


def _spoil(device: Device, size: int) -> None:
    """Write over what follows the first `size` bytes of a device."""
    step = 4 * MIB
    for offset in range(size, device.size, 16 * step):
        os.pwrite(device.fd, b"\xee" * min(step, device.size - offset), device.start + offset)


def test_every_file_on_xfs_is_whole_after_growing(place: Device, many: Path) -> None:
    make(place, "xfs", many)
    assert XFS.grow(place, 400 * MIB) == Resized(400 * MIB, changed=True)
    check_clean(place, "xfs")
    assert XFS.grow(place) == Resized(SIZE, changed=True)
    check_whole(place, "xfs", many)


def test_every_file_on_btrfs_is_whole_after_growing_shrinking_and_growing(
    place: Device, many: Path
) -> None:
    make(place, "btrfs", many)
    assert BTRFS.grow(place) == Resized(SIZE, changed=True)
    check_clean(place, "btrfs")
    assert BTRFS.shrink(place, 400 * MIB + 5) == Resized(400 * MIB, changed=True)
    least = BTRFS.shrink(place, None)
    assert least.changed
    assert 256 * MIB <= least.size < MADE
    _spoil(place, least.size)
    check_whole(place, "btrfs", many)
    assert BTRFS.grow(place) == Resized(SIZE, changed=True)
    check_whole(place, "btrfs", many)


def test_what_lies_around_a_partition_is_left_alone(tmp_path: Path, tree: Path) -> None:
    with image(tmp_path / "image", SIZE + 2 * START) as whole:
        part = whole.part(START, SIZE)
        make(part, "btrfs", tree)
        os.pwrite(whole.fd, b"\xaa" * START, 0)
        os.pwrite(whole.fd, b"\xbb" * START, START + SIZE)
        BTRFS.grow(part)
        BTRFS.shrink(part, 300 * MIB)
        assert os.pread(whole.fd, START, 0) == b"\xaa" * START
        assert os.pread(whole.fd, START, START + SIZE) == b"\xbb" * START


@KINDS
def test_what_is_as_asked_already_is_not_written_to(device: Device, kind: str) -> None:
    filesystem = FILESYSTEMS[kind]
    make(device, kind, None)
    filesystem.grow(device, 400 * MIB)
    before = fingerprint(device)
    assert filesystem.grow(device, 400 * MIB + 4095) == Resized(400 * MIB, changed=False)
    assert filesystem.shrink(device, 500 * MIB) == Resized(400 * MIB, changed=False)
    assert fingerprint(device) == before


@KINDS
def test_growing_makes_no_holes_in_an_image_whose_space_is_reserved(
    tmp_path: Path, tree: Path, kind: str
) -> None:
    with image(tmp_path / "image", 400 * MIB) as device:
        make(device, kind, tree)
        os.posix_fallocate(device.fd, 0, device.size)
        FILESYSTEMS[kind].grow(device)
        assert os.fstat(device.fd).st_blocks * 512 >= device.size
        if kind == "btrfs":
            BTRFS.shrink(device, None)
            assert os.fstat(device.fd).st_blocks * 512 >= device.size


@KINDS
def test_what_a_crash_left_in_the_log_is_replayed_and_kept(
    device: Device, tree: Path, tmp_path: Path, kind: str
) -> None:
    make(device, kind, tree)
    later = tmp_path / "later"
    sh(f"cp -a {tree} {later} && echo later >{later}/later")
    with block_device(device) as node, mounted(node, ""):
        sh("echo later >/mnt/fs/later && sync /mnt/fs/later")
        sh(f"cp --sparse=always {os.readlink(device.path)} {tmp_path}/crashed")
    with (tmp_path / "crashed").open("r+b") as file:
        crashed = Device(file.fileno(), SIZE)
        assert FILESYSTEMS[kind].grow(crashed) == Resized(SIZE, changed=True)
        check_whole(crashed, kind, later)
    (tmp_path / "crashed").unlink()


@KINDS
def test_a_size_that_cannot_be_is_refused_and_nothing_is_written(device: Device, kind: str) -> None:
    make(device, kind, None)
    before = fingerprint(device)
    with pytest.raises(UsageError, match=str(SIZE)):
        FILESYSTEMS[kind].grow(device, SIZE + MIB)
    with pytest.raises(UsageError, match="shrinkfs"):
        FILESYSTEMS[kind].grow(device, 300 * MIB)
    assert fingerprint(device) == before


def test_xfs_says_that_it_cannot_shrink_and_what_else_to_do(device: Device) -> None:
    make(device, "xfs", None)
    before = fingerprint(device)
    for size in (310 * MIB, None):
        with pytest.raises(Unsupported, match=r"cannot shrink.*copy the files"):
            XFS.shrink(device, size)
    assert fingerprint(device) == before


def test_btrfs_keeps_its_size_and_its_files_where_they_do_not_fit(
    volume: str, tree: Path, tmp_path: Path
) -> None:
    much = tmp_path / "much"
    sh(f"cp -a {tree} {much} && head -c 200M /dev/zero | tr '\\0' x >{much}/big")
    with Path(volume).open("r+b") as file:
        device = Device(file.fileno(), SIZE)
        make(device, "btrfs", much, made=SIZE)
        with pytest.raises(Unsafe, match=r"not fit in 283115520 bytes \(270 MiB\).*'minimum'"):
            BTRFS.shrink(device, 270 * MIB)
        assert filesystem_size("btrfs", device) == SIZE
        check_whole(device, "btrfs", much)
        least = BTRFS.shrink(device, None)
        assert 270 * MIB < least.size < 450 * MIB
        check_whole(device, "btrfs", much)
    sh(f"rm -r {much}")


def test_btrfs_is_not_made_smaller_than_the_kernel_takes(device: Device) -> None:
    make(device, "btrfs", None)
    with pytest.raises(Unsafe, match="268435456"):
        BTRFS.shrink(device, 200 * MIB)
    assert filesystem_size("btrfs", device) == MADE


def test_a_copy_of_a_mounted_xfs_is_grown_and_the_original_is_not(
    device: Device, tmp_path: Path, tree: Path
) -> None:
    make(device, "xfs", tree)
    sh(f"cp --sparse=always {os.readlink(device.path)} {tmp_path}/copy")
    with (
        block_device(device) as node,
        mounted(node, ""),
        (tmp_path / "copy").open("r+b") as file,
    ):
        copy = Device(file.fileno(), SIZE)
        assert XFS.grow(copy) == Resized(SIZE, changed=True)
        check_clean(copy, "xfs")
        assert filesystem_size("xfs", device) == MADE
        sh(f"diff -r --no-dereference {tree} /mnt/fs")
    (tmp_path / "copy").unlink()
