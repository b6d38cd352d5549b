"""ext file systems shrink and grow with thousands of files in them, each of which is whole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.ext_images import (
    MEMORY,
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

from virtstore.errors import Corrupt, Unsafe, Unsupported
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.detect import detect, end_of_contents
from virtstore.filesystems.ext import Ext

IMAGE = 56 * MIB
MADE = 40 * MIB


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(3000) as tree:
        yield tree


@pytest.fixture
def populated(tmp_path: Path, tree: Tree) -> Iterator[Device]:
    """ext4 with the files of `tree`."""
    path = tmp_path / "image"
    mke2fs(path, "-t", "ext4", "-d", str(tree.root), made=MADE, size=IMAGE)
    with opened(path) as device:
        yield device


def _cut(device: Device, size: int) -> None:
    """Cut the image and give it its length back: what lay behind is zeros."""
    os.ftruncate(device.fd, size)
    os.ftruncate(device.fd, device.size)


@pytest.mark.parametrize("block", [1024, 2048, 4096])
@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_every_file_is_whole_after_growing_shrinking_to_the_minimum_and_growing(
    tmp_path: Path, tree: Tree, kind: str, block: int
) -> None:
    path = tmp_path / "image"
    options = ("-t", kind, "-b", str(block), "-d", str(tree.root))
    mke2fs(path, *options, made=MADE, size=IMAGE)
    with opened(path) as device:
        before = detect(device).filesystem
        assert Ext().grow(device) == Resized(IMAGE, changed=True)
        fsck(device)
        small = Ext().shrink(device, None)
        assert small.changed
        assert sum(map(len, tree.files.values())) < small.size < MADE
        _cut(device, small.size)
        fsck(device)
        assert end_of_contents(detect(device)) == small.size
        assert Ext().grow(device).changed
        fsck(device)
        assert files_in(device) == tree.files
        after = detect(device).filesystem
        assert before
        assert after
        assert (before.type, before.uuid) == (after.type, after.uuid)


def test_shrinking_to_a_size_ends_at_it_and_leaves_what_lies_behind(populated: Device) -> None:
    os.pwrite(populated.fd, b"not mine", 50 * MIB)
    assert Ext().shrink(populated, 30 * MIB + 1023) == Resized(30 * MIB, changed=True)
    assert os.fstat(populated.fd).st_size == IMAGE
    assert os.pread(populated.fd, 8, 50 * MIB) == b"not mine"
    fsck(populated)


def test_shrinking_again_writes_nothing(populated: Device) -> None:
    Ext().shrink(populated, 30 * MIB)
    shrunk = fingerprint(populated)
    assert Ext().shrink(populated, 30 * MIB) == Resized(30 * MIB, changed=False)
    assert Ext().shrink(populated, IMAGE) == Resized(30 * MIB, changed=False)
    assert fingerprint(populated) == shrunk


def test_the_minimum_is_a_size_that_it_shrinks_to(populated: Device, tree: Tree) -> None:
    minimum = Ext().minimum(populated)
    assert minimum
    assert Ext().shrink(populated, minimum).size <= minimum
    _cut(populated, minimum)
    fsck(populated)
    assert files_in(populated) == tree.files


def test_as_far_as_it_goes_is_no_more_than_the_minimum_and_then_it_goes_no_further(
    populated: Device,
) -> None:
    minimum = Ext().minimum(populated)
    assert minimum
    smallest = Ext().shrink(populated, None).size
    assert smallest <= minimum
    assert Ext().shrink(populated, None) == Resized(smallest, changed=False)


@pytest.mark.parametrize("size", [0, MIB])
def test_less_than_its_files_need_is_refused_and_the_smallest_size_named(
    populated: Device, size: int
) -> None:
    minimum = Ext().minimum(populated)
    before = fingerprint(populated)
    with pytest.raises(Unsafe, match=f"smallest size that holds it is {minimum} bytes"):
        Ext().shrink(populated, size)
    assert fingerprint(populated) == before


def test_a_full_file_system_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mke2fs(path, "-t", "ext4", "-m", "0", made=16 * MIB, size=16 * MIB)
    with opened(path) as device:
        smallest = Ext().shrink(device, None).size
        with pytest.raises(Unsafe, match=str(smallest)):
            Ext().shrink(device, smallest - 1024)
        assert Ext().minimum(device) == smallest


def test_progress_is_told_and_never_passes_its_total(populated: Device) -> None:
    told: list[tuple[int, int]] = []
    Ext().shrink(populated, None, lambda done, total: told.append((done, total)))
    assert told
    assert all(0 <= done <= total for done, total in told)
    assert {total for _, total in told} == {1000, 200}


def _set(device: Device, layout: str, offset: int, value: int) -> None:
    os.pwrite(device.fd, struct.pack(layout, value), 1024 + offset)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Device]:
    """ext4 without checksums, so that a test can change its superblock."""
    path = tmp_path / "plain"
    mke2fs(path, "-t", "ext4", "-O", "^metadata_csum", made=24 * MIB, size=24 * MIB)
    with opened(path) as device:
        yield device


def test_a_journal_to_replay_is_replayed_even_where_it_is_small_enough(plain: Device) -> None:
    (incompat,) = struct.unpack("<I", os.pread(plain.fd, 4, 1024 + 0x60))
    _set(plain, "<I", 0x60, incompat | 4)
    assert Ext().shrink(plain, 24 * MIB) == Resized(24 * MIB, changed=False)
    (now,) = struct.unpack("<I", os.pread(plain.fd, 4, 1024 + 0x60))
    assert now == incompat
    assert Ext().shrink(plain, 16 * MIB).changed
    fsck(plain)


def test_errors_on_record_are_checked_and_cleared(plain: Device) -> None:
    _set(plain, "<H", 0x3A, 3)
    assert Ext().shrink(plain, 16 * MIB).changed
    fsck(plain)


def test_one_that_says_it_is_small_and_has_contents_behind_is_refused(populated: Device) -> None:
    # What a power cut in the middle of a shrink can leave: a block count and nothing else.
    tool("debugfs", "-w", "-R", f"ssv blocks_count {20 * 1024}", os.readlink(populated.path))
    before = fingerprint(populated)
    with pytest.raises(Corrupt):
        Ext().shrink(populated, 20 * MIB)
    assert fingerprint(populated) == before


def test_a_guest_whose_clock_was_wrong_is_not_damaged(plain: Device) -> None:
    _set(plain, "<I", 0x2C, 0x7FFFFFFF)  # last mounted in 2038
    assert Ext().shrink(plain, 16 * MIB).changed
    fsck(plain)


def test_bad_descriptors_are_refused_untouched_although_e2fsck_has_a_backup_of_them(
    plain: Device,
) -> None:
    os.pwrite(plain.fd, b"\xff" * 12, 2048)
    before = fingerprint(plain)
    with pytest.raises(Corrupt, match=r"[Gg]roup descriptor"):
        Ext().shrink(plain, 16 * MIB)
    assert fingerprint(plain) == before


def test_damage_is_refused_untouched(plain: Device) -> None:
    tool("debugfs", "-w", "-R", "clri <2>", os.readlink(plain.path))
    before = fingerprint(plain)
    with pytest.raises(Corrupt, match="Root inode is not a directory"):
        Ext().shrink(plain, 16 * MIB)
    assert fingerprint(plain) == before


def test_one_that_was_cut_off_with_its_image_is_refused(plain: Device) -> None:
    with pytest.raises(Corrupt, match="the image was cut"):
        Ext().shrink(plain.part(0, 20 * MIB), 16 * MIB)


def test_without_resize2fs_the_missing_package_is_named(
    plain: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtstore.programs.find", lambda tool: None)
    with pytest.raises(Unsupported, match="e2fsprogs"):
        Ext().shrink(plain, 16 * MIB)


@settings(max_examples=6)
@given(sizes=st.lists(st.integers(0, IMAGE), min_size=2, max_size=4))
def test_any_sequence_of_sizes_keeps_every_file(tree: Tree, sizes: list[int]) -> None:
    with TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "image"
        mke2fs(path, "-t", "ext4", "-d", str(tree.root), made=MADE, size=IMAGE)
        with opened(path) as device:
            for size in sizes:
                _to(device, size)
                fsck(device)
            assert files_in(device) == tree.files


def _to(device: Device, size: int) -> None:
    """Resize to `size`; too small is refused, and then it keeps its own."""
    found = detect(device).filesystem
    assert found
    assert found.size
    if size >= found.size:
        assert found.size <= Ext().grow(device, size).size <= size
        return
    try:
        now = Ext().shrink(device, size).size
    except Unsafe:
        now = found.size
    else:
        assert now <= size
        _cut(device, size)
    after = detect(device).filesystem
    assert after
    assert after.size == now
