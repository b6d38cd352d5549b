"""Sizes are read from superblocks, and none that cannot be true is believed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.filesystems.base import Device
from virtstore.filesystems.extsuper import parse_superblock
from virtstore.filesystems.superblock import filesystem_size

MakeDevice = Callable[[bytes], Device]


@pytest.fixture
def device_of(tmp_path: Path) -> Iterator[MakeDevice]:
    with ExitStack() as files:

        def make(contents: bytes) -> Device:
            path = tmp_path / "image"
            path.write_bytes(contents)
            file = files.enter_context(path.open("rb"))
            return Device(file.fileno(), len(contents))

        yield make


def _ext(blocks: int, *, log: int = 2, incompat: int = 0, state: int = 1, **more: int) -> bytes:
    raw = bytearray(1024)
    struct.pack_into("<I", raw, 0x04, blocks & 0xFFFFFFFF)
    struct.pack_into("<I", raw, 0x18, log)
    struct.pack_into("<HH", raw, 0x38, 0xEF53, state)
    compat, ro_compat = more.get("compat", 0), more.get("ro_compat", 0)
    struct.pack_into("<III", raw, 0x5C, compat, incompat, ro_compat)
    struct.pack_into("<I", raw, 0xE0, more.get("journal_inode", 8))
    struct.pack_into("<I", raw, 0x150, blocks >> 32)
    return bytes(raw)


def test_ext_has_block_count_times_block_size() -> None:
    superblock = parse_superblock(_ext(1000, log=0))
    assert superblock
    assert (superblock.block_size, superblock.size) == (1024, 1_024_000)


def test_the_high_half_of_exts_block_count_counts_only_with_64bit() -> None:
    large, small = (
        parse_superblock(_ext(2**32 + 5, incompat=0x80)),
        parse_superblock(_ext(2**32 + 5)),
    )
    assert large
    assert small
    assert (large.blocks, small.blocks) == (2**32 + 5, 5)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (_ext(9), True),
        (_ext(9, state=0), False),
        (_ext(9, state=3), False),
        (_ext(9, incompat=4), False),
    ],
    ids=["unmounted", "mounted", "errors", "journal to replay"],
)
def test_ext_is_clean_only_when_unmounted_in_order(raw: bytes, clean: bool) -> None:
    superblock = parse_superblock(raw)
    assert superblock
    assert superblock.clean is clean


def test_what_resizing_depends_on_is_read_from_exts_features() -> None:
    bigalloc = parse_superblock(_ext(9, ro_compat=0x200))
    elsewhere = parse_superblock(_ext(9, compat=4, journal_inode=0))
    inside = parse_superblock(_ext(9, compat=4))
    shared = parse_superblock(_ext(9, incompat=0x100))
    fixed = parse_superblock(_ext(9, compat=0x800))
    assert bigalloc
    assert elsewhere
    assert inside
    assert bigalloc.bigalloc
    assert elsewhere.external_journal
    assert not inside.external_journal
    assert shared
    assert fixed
    assert (shared.mmp, shared.stable_inodes) == (True, False)
    assert (fixed.mmp, fixed.stable_inodes) == (False, True)


@pytest.mark.parametrize(
    "raw",
    [bytes(1024), _ext(0), _ext(9, log=7), _ext(9, log=2**32 - 1), _ext(2**62, incompat=0x80)],
    ids=["no magic", "no blocks", "large blocks", "absurd blocks", "more than a file can hold"],
)
def test_an_ext_superblock_that_cannot_be_true_is_none(raw: bytes) -> None:
    assert parse_superblock(raw) is None


@given(st.binary(min_size=1024, max_size=1024))
def test_any_1024_bytes_are_judged_without_a_crash(raw: bytes) -> None:
    marked = raw[:0x38] + b"\x53\xef" + raw[0x3A:]
    superblock = parse_superblock(marked)
    assert superblock is None or 0 < superblock.size < 2**63


BTRFS_SECTOR = struct.pack("<I", 4096)
SEVEN = struct.pack("<Q", 7 << 20)
#: Sectors, and where the file table begins.
NTFS = struct.pack("<QQ", 999, 4)


@pytest.mark.parametrize(
    ("kind", "fields", "size"),
    [
        ("xfs", {0: b"XFSB", 4: struct.pack(">IQ", 4096, 1000)}, 4_096_000),
        ("btrfs", {0x10040: b"_BHRfS_M", 0x10090: BTRFS_SECTOR, 0x100D1: SEVEN}, 7 << 20),
        ("btrfs", {0x10040: b"_BHRfS_M", 0x100D1: SEVEN}, None),
        ("swap", {4086: b"SWAPSPACE2", 1024: struct.pack("<II", 1, 99)}, 409_600),
        ("swap", {65526: b"SWAPSPACE2", 1024: struct.pack("<II", 1, 9)}, 655_360),
        ("ntfs", {3: b"NTFS    ", 0x0B: b"\0\x02\x08", 0x28: NTFS, 0x40: b"\xf6"}, 512_000),
        ("ntfs", {3: b"NTFS    ", 0x0B: b"\0\x03\x08", 0x28: NTFS, 0x40: b"\xf6"}, None),
        ("vfat", {0x0B: b"\0\x02", 0x13: b"\x64\0"}, 51_200),
        ("vfat", {0x0B: b"\0\x02", 0x20: struct.pack("<I", 100_000)}, 51_200_000),
        ("exfat", {0x48: struct.pack("<Q", 1000), 0x6C: b"\x09"}, 512_000),
        ("exfat", {0x48: struct.pack("<Q", 1000), 0x6C: b"\xff"}, None),
        ("xfs", {4: struct.pack(">IQ", 4096, 1000)}, None),
        ("xfs", {0: b"XFSB", 4: struct.pack(">IQ", 2**32 - 1, 2**63)}, None),
        ("crypto_LUKS", {0: b"LUKS\xba\xbe"}, None),
    ],
)
def test_a_size_is_where_its_format_says(
    device_of: MakeDevice, kind: str, fields: dict[int, bytes], size: int | None
) -> None:
    image = bytearray(80 << 10)
    for offset, value in fields.items():
        image[offset : offset + len(value)] = value
    assert filesystem_size(kind, device_of(bytes(image))) == size


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "swap", "ntfs", "vfat", "exfat"])
@pytest.mark.parametrize("length", [0, 8, 1030])
def test_a_device_too_short_for_its_superblock_has_no_size(
    device_of: MakeDevice, kind: str, length: int
) -> None:
    assert filesystem_size(kind, device_of(b"XFSBNTFS"[:length].ljust(length, b"\0"))) is None


def test_a_part_of_a_device_ends_where_the_device_does(device_of: MakeDevice) -> None:
    part = device_of(bytes(range(100))).part(90, 50)
    assert part.size == 10
    assert part.read(4, 50) == bytes(range(94, 100))
    assert part.read(10, 1) == b""
    assert os.path.samestat(os.stat(part.path), os.fstat(part.fd))
