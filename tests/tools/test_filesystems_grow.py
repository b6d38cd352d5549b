"""Real ext file systems grow with every file in them intact, or are refused untouched."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Error, InUse, Unsupported, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.detect import detect
from virtstore.filesystems.ext import Ext
from virtstore.filesystems.extsuper import read_superblock
from virtstore.programs import find

MIB = 1 << 20
Mke2fs = Callable[..., Device]


def _tool(*argv: str) -> bytes:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    return subprocess.run([program, *argv[1:]], capture_output=True, check=True).stdout


@pytest.fixture
def mke2fs(tmp_path: Path) -> Iterator[Mke2fs]:
    """Makes a file system of `made` bytes in an image of `size` bytes."""
    with ExitStack() as files:

        def make(*options: str, made: int = 24 * MIB, size: int = 60 * MIB) -> Device:
            path = tmp_path / f"image-{len(list(tmp_path.iterdir()))}"
            file = files.enter_context(path.open("w+b"))
            os.ftruncate(file.fileno(), made)
            _tool("mke2fs", "-q", "-F", *options, str(path))
            os.ftruncate(file.fileno(), size)
            return Device(file.fileno(), size)

        yield make


def _fingerprint(device: Device) -> str:
    return hashlib.sha256(os.pread(device.fd, device.size, 0)).hexdigest()


def _path(device: Device) -> str:
    return os.readlink(device.path)


def _fsck(device: Device) -> None:
    _tool("e2fsck", "-fn", _path(device))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    seeded = random.Random(1)
    return {f"d{i % 7}/f{i}": seeded.randbytes(seeded.randrange(30_000)) for i in range(300)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name, contents in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(contents)
    return root


def _files_in(device: Device, into: Path) -> dict[str, bytes]:
    into.mkdir()
    _tool("debugfs", "-R", f"rdump / {into}", _path(device))
    found = (p for p in into.rglob("*") if p.is_file())
    return {str(p.relative_to(into)): p.read_bytes() for p in found}


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ext2"),
        ("-t", "ext2", "-r", "0"),
        ("-t", "ext3"),
        ("-t", "ext4"),
        ("-t", "ext4", "-b", "4096"),
        ("-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum"),
        ("-t", "ext4", "-O", "^64bit,^resize_inode,^metadata_csum"),
        ("-t", "ext4", "-O", "meta_bg,^resize_inode"),
        ("-t", "ext4", "-O", "sparse_super2,inline_data"),
        ("-t", "ext4", "-O", "encrypt,verity,stable_inodes"),
    ],
    ids=" ".join,
)
def test_every_file_is_whole_after_growing(
    mke2fs: Mke2fs, tree: Path, files: dict[str, bytes], tmp_path: Path, options: tuple[str, ...]
) -> None:
    device = mke2fs(*options, "-d", str(tree))
    before = detect(device).filesystem
    assert Ext().grow(device) == Resized(device.size, changed=True)
    _fsck(device)
    after = detect(device).filesystem
    assert before
    assert after
    assert (before.size, after.size) == (24 * MIB, 60 * MIB)
    assert (before.uuid, before.type) == (after.uuid, after.type)
    assert _files_in(device, tmp_path / "out") == files


def test_one_with_quotas_grows(mke2fs: Mke2fs) -> None:
    # Without files: `mke2fs -d` does not count them, and e2fsck finds the quotas wrong.
    device = mke2fs("-t", "ext4", "-O", "quota,project")
    assert Ext().grow(device) == Resized(device.size, changed=True)
    _fsck(device)


def test_growing_again_writes_nothing(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4")
    Ext().grow(device)
    grown = _fingerprint(device)
    assert Ext().grow(device) == Resized(device.size, changed=False)
    assert _fingerprint(device) == grown


def test_one_that_says_it_has_grown_and_has_not_is_refused_untouched(mke2fs: Mke2fs) -> None:
    # What a power cut in the middle of a growth can leave: a block count and nothing else.
    device = mke2fs("-t", "ext4", "-b", "1024")
    _tool("debugfs", "-w", "-R", f"ssv blocks_count {60 * 1024}", _path(device))
    before = _fingerprint(device)
    with pytest.raises(Corrupt, match="fails its check"):
        Ext().grow(device)
    assert _fingerprint(device) == before


def test_a_growth_that_was_killed_at_its_end_is_finished(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-O", "^metadata_csum")
    Ext().grow(device)
    os.pwrite(device.fd, b"\x03\x00", 1024 + 0x3A)  # resize2fs's mark while it is at work
    assert Ext().grow(device) == Resized(device.size, changed=False)
    superblock = read_superblock(device)
    assert superblock
    assert superblock.clean
    _fsck(device)


def test_one_that_cannot_grow_and_need_not_is_as_asked(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-O", "bigalloc", "-C", "16384", size=24 * MIB)
    assert Ext().grow(device) == Resized(24 * MIB, changed=False)


def test_growing_to_less_than_the_image_leaves_the_rest_of_the_image(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4")
    os.pwrite(device.fd, b"not mine", 59 * MIB)
    assert Ext().grow(device, 40 * MIB) == Resized(40 * MIB, changed=True)
    assert os.fstat(device.fd).st_size == 60 * MIB
    assert os.pread(device.fd, 8, 59 * MIB) == b"not mine"
    _fsck(device)


def test_an_image_that_is_no_whole_number_of_blocks_keeps_its_length(mke2fs: Mke2fs) -> None:
    odd = 60 * MIB + 1000
    device = mke2fs("-t", "ext4", "-b", "4096", size=odd)
    assert Ext().grow(device).size == 60 * MIB
    assert os.fstat(device.fd).st_size == odd


def test_a_last_group_too_small_to_use_is_left_out_and_the_image_keeps_its_length(
    mke2fs: Mke2fs,
) -> None:
    made, size = 64 * MIB, 64 * MIB + 30 * 1024
    device = mke2fs("-t", "ext4", "-b", "1024", made=made, size=size)
    grown = Ext().grow(device)
    assert made < grown.size < size
    assert os.fstat(device.fd).st_size == size
    assert Ext().grow(device) == Resized(grown.size, changed=False)


def test_a_size_that_cannot_be_is_refused_and_nothing_is_written(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4")
    before = _fingerprint(device)
    with pytest.raises(UsageError, match=str(60 * MIB)):
        Ext().grow(device, 61 * MIB)
    with pytest.raises(UsageError, match="shrinkfs"):
        Ext().grow(device, 20 * MIB)
    assert _fingerprint(device) == before


def _set_bits(device: Device, offset: int, bits: int) -> None:
    (value,) = struct.unpack("<I", os.pread(device.fd, 4, 1024 + offset))
    os.pwrite(device.fd, struct.pack("<I", value | bits), 1024 + offset)


COMPAT, INCOMPAT, RO_COMPAT = 0x5C, 0x60, 0x64


@pytest.mark.parametrize("field", [COMPAT, INCOMPAT, RO_COMPAT])
def test_a_feature_of_a_newer_mkfs_is_unsupported_and_nothing_is_tried(
    mke2fs: Mke2fs, field: int
) -> None:
    device = mke2fs("-t", "ext4", "-O", "^metadata_csum")
    _set_bits(device, field, 1 << 30)
    before = _fingerprint(device)
    with pytest.raises(Unsupported, match="e2fsprogs is too old"):
        Ext().grow(device)
    assert _fingerprint(device) == before


def test_bigalloc_and_a_journal_elsewhere_are_unsupported(mke2fs: Mke2fs) -> None:
    bigalloc = mke2fs("-t", "ext4", "-O", "bigalloc", "-C", "16384")
    with pytest.raises(Unsupported, match="bigalloc"):
        Ext().grow(bigalloc)
    elsewhere = mke2fs("-t", "ext4", "-O", "^metadata_csum,^has_journal")
    _set_bits(elsewhere, COMPAT, 4)
    with pytest.raises(Unsupported, match="journal on another device"):
        Ext().grow(elsewhere)


def test_a_journal_to_replay_is_replayed_first(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-O", "^metadata_csum")
    _set_bits(device, INCOMPAT, 4)
    assert Ext().minimum(device) is None
    assert Ext().grow(device).size == 60 * MIB
    superblock = read_superblock(device)
    assert superblock
    assert superblock.clean
    _fsck(device)


def test_errors_on_record_are_checked_and_cleared(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-O", "^metadata_csum")
    os.pwrite(device.fd, b"\x03\x00", 1024 + 0x3A)
    assert Ext().grow(device).changed
    _fsck(device)


def test_damage_is_refused_untouched_with_e2fscks_own_words(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-O", "^metadata_csum")
    _tool("debugfs", "-w", "-R", "clri <2>", _path(device))
    before = _fingerprint(device)
    with pytest.raises(Corrupt, match="Root inode is not a directory"):
        Ext().grow(device)
    assert _fingerprint(device) == before


def test_one_that_another_host_has_marked_as_its_own_is_in_use(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", "-b", "1024", "-O", "mmp,^metadata_csum")
    (block,) = struct.unpack("<Q", os.pread(device.fd, 8, 1024 + 0x168))
    os.pwrite(device.fd, struct.pack("<I", 0xE24D4D50), block * 1024 + 4)
    before = _fingerprint(device)
    with pytest.raises(InUse, match="clear_mmp"):
        Ext().grow(device)
    assert _fingerprint(device) == before


def test_a_file_system_cut_off_with_its_image_is_refused(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4", size=20 * MIB)
    with pytest.raises(Corrupt, match="the image was cut"):
        Ext().grow(device)


def test_more_blocks_than_32_bits_count_are_refused_and_the_file_system_is_whole(
    mke2fs: Mke2fs,
) -> None:
    device = mke2fs("-t", "ext4", "-b", "1024", "-O", "^64bit", size=5 << 40)
    with pytest.raises(Error, match=r"32 bits.*passes its check"):
        Ext().grow(device)
    assert os.fstat(device.fd).st_size == 5 << 40
    _fsck(device)


def test_the_minimum_holds_the_files_and_is_less_than_the_whole(
    mke2fs: Mke2fs, tree: Path, files: dict[str, bytes]
) -> None:
    minimum = Ext().minimum(mke2fs("-t", "ext4", "-d", str(tree)))
    assert minimum
    assert sum(map(len, files.values())) < minimum < 24 * MIB


def test_what_is_not_ext_has_no_minimum(mke2fs: Mke2fs) -> None:
    device = mke2fs("-t", "ext4")
    os.pwrite(device.fd, bytes(4096), 0)
    assert Ext().minimum(device) is None
    assert Ext().minimum(device.part(4096, MIB)) is None
