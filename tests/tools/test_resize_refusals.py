"""What cannot be resized is refused before anything is touched, with the reason and what to do."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.tools.ext_images import MIB, Files, new_tree, tool
from tests.tools.resize_images import (
    BARE,
    GPT,
    LAYOUTS,
    LOGICAL,
    MADE,
    MBR,
    Layout,
    check,
    configuration,
    make_filesystem,
    make_image,
    new_root,
    spoil,
    told,
    write_configuration,
)

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices")
LIMITS = '[limits]\nmax_image_size = "400M"\n'
_HEAD = 4096


class Sources(NamedTuple):
    """A filled ext4, and a place for what is made of it."""

    root: Path
    ext4: Path
    files: Files


@pytest.fixture(scope="module")
def sources() -> Iterator[Sources]:
    with new_root() as root, new_tree(300) as tree:
        write_configuration(root, LIMITS)
        ext4 = root.with_name("ext4")
        yield Sources(root, ext4, make_filesystem(ext4, "ext4", tree))


@pytest.fixture(autouse=True)
def environment(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(sources.root)))
    yield
    for path in sources.root.iterdir():
        path.unlink()


def in_layout(layout: Layout, sources: Sources, source: Path | None = None) -> Path:
    path = sources.root / "x.img"
    make_image(path, layout, "ext4", source or sources.ext4, sources.files)
    return path


def bare(sources: Sources) -> Path:
    return in_layout(BARE, sources)


def gpt(sources: Sources) -> Path:
    return in_layout(GPT, sources)


def logical(sources: Sources) -> Path:
    return in_layout(LOGICAL, sources)


def blank(sources: Sources, size: int = MADE) -> Path:
    path = sources.root / "x.img"
    with path.open("wb") as image:
        image.truncate(size)
    return path


def luks(sources: Sources) -> Path:
    """The header of a LUKS1 device, as far as one who has no key reads it."""
    path = blank(sources)
    cipher = struct.pack(">6sH32s32s32s", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256")
    spoil(
        path, 0, cipher + struct.pack(">II", 4096, 64) + bytes(56) + b"2d1f-luks".ljust(40, b"\0")
    )
    return path


def physical_volume(sources: Sources) -> Path:
    """An LVM label (lib/label/label.h, lib/format_text/layout.h), with its checksum."""
    path = blank(sources)
    label = (struct.pack("<I8s", 32, b"LVM2 001") + b"abcdef" * 5 + b"gh").ljust(492, b"\0")
    checksum = zlib.crc32(label, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    spoil(path, 512, struct.pack("<8sQI", b"LABELONE", 1, checksum) + label)
    return path


def in_gpt(make: Callable[[Sources], Path]) -> Callable[[Sources], Path]:
    def made(sources: Sources) -> Path:
        inner = make(sources).rename(sources.root.with_name("inner"))
        return in_layout(GPT, sources, inner)

    return made


def xfs(sources: Sources) -> Path:
    path = blank(sources, 300 * MIB)
    tool("mkfs.xfs", "-q", str(path))
    return path


def fat(sources: Sources) -> Path:
    path = blank(sources)
    tool("mkfs.vfat", str(path))
    return path


def dirty_ntfs(sources: Sources) -> Path:
    path = blank(sources)
    tool("mkntfs", "-F", "-f", "-q", str(path))
    tool("ntfsfix", str(path))  # mends a few things, and marks it for the rest
    return path


def suspended(sources: Sources) -> Path:
    path = blank(sources)
    tool("mkswap", str(path))
    spoil(path, _HEAD - 10, b"S1SUSPEND\0")
    return path


def archive(sources: Sources) -> Path:
    path = bare(sources)
    tool("zstd", "-q", "-1", "--rm", str(path))
    return path.with_name("x.img.zst")


def overlapping(sources: Sources) -> Path:
    path = in_layout(MBR, sources)
    spoil(path, 446 + 8, struct.pack("<II", 2048, 8192))  # up into the second
    return path


def half_a_gpt(sources: Sources) -> Path:
    path = gpt(sources)
    spoil(path, 512 + 16, b"\xff")
    return path


def hybrid(sources: Sources) -> Path:
    path = gpt(sources)
    tool("sgdisk", "--hybrid", "2", str(path))
    return path


def file_system_and_table(sources: Sources) -> Path:
    path = bare(sources)
    table = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\0\4\0", 2048, 4096)
    spoil(path, 446, table.ljust(64, b"\0") + b"\x55\xaa")
    return path


def cut(sources: Sources) -> Path:
    path = bare(sources)
    os.truncate(path, MADE - MIB)
    return path


def damaged_with_space_behind(sources: Sources) -> Path:
    path = bare(sources)
    os.truncate(path, 2 * MADE)
    said = tool("dumpe2fs", str(path)).decode()
    table = re.search(r"Inode table at (\d+)", said)
    block = re.search(r"Block size: +(\d+)", said)
    assert table
    assert block
    spoil(path, int(table[1]) * int(block[1]), b"\xff" * 4096)
    return path


def without_a_size(sources: Sources) -> Path:
    path = bare(sources)
    spoil(path, 1024 + 0x150, b"\xff" * 4)  # the upper half of how many blocks it has
    return path


def damaged_in_a_partition(sources: Sources) -> Path:
    return in_gpt(lambda s: _cut_to(damaged_with_space_behind(s), MADE))(sources)


def _cut_to(path: Path, size: int) -> Path:
    os.truncate(path, size)
    return path


REFUSALS = [
    (bare, "resize 2M", 8, r"smallest image for that has \d+ bytes"),
    (gpt, "resize 5M", 8, r"smallest image for that has \d+ bytes"),
    (gpt, "resize 2M", 8, "begins at byte 3145728; no part of it would be left"),
    (logical, "resize 8M", 8, r"smallest image for that has \d+ bytes"),
    (bare, "shrinkfs 1M", 8, "needs at least"),
    (bare, "resize 401M", 5, "400M|400 MiB"),
    (bare, "growfs 25M", 2, "virtstore grow"),
    (gpt, "growfs 24M --partition 1", 11, "no file system was recognised in partition 1"),
    (gpt, "growfs 26M", 2, "virtstore grow"),
    (bare, "growfs 20M", 2, "virtstore shrinkfs"),
    (bare, "shrinkfs 30M", 2, "virtstore growfs"),
    (gpt, "growfs --partition 7", 3, "no partition 7; there are: 1, 2"),
    (gpt, "shrinkfs minimum --partition 7", 3, "no partition 7; there are: 1, 2"),
    (logical, "growfs --partition 2", 2, "extended"),
    (bare, "growfs --partition 1", 2, "leave --partition out"),
    (blank, "growfs", 11, "no file system was recognised.*virtstore grow"),
    (blank, "shrinkfs minimum", 11, "no file system was recognised"),
    (blank, "resize 30M", 11, "no file system was recognised"),
    (luks, "growfs", 11, r"LUKS.*cryptsetup resize"),
    (luks, "resize 30M", 11, r"LUKS.*cryptsetup resize"),
    (in_gpt(luks), "resize minimum", 11, r"LUKS.*cryptsetup resize"),
    (physical_volume, "growfs", 11, "pvresize"),
    (physical_volume, "resize 30M", 11, "pvresize"),
    (in_gpt(physical_volume), "shrinkfs 20M", 11, "pvresize"),
    (in_gpt(physical_volume), "resize minimum", 11, "pvresize"),
    (xfs, "resize 290M", 11, "XFS cannot shrink"),
    (xfs, "shrinkfs minimum", 11, "XFS cannot shrink"),
    (xfs, "resize 310M", 5, "mount_guest_filesystems = true"),
    (fat, "growfs", 11, "FAT file system cannot be resized"),
    (fat, "resize 30M", 11, "FAT file system cannot be resized"),
    (fat, "resize 20M", 11, "FAT file system cannot be resized"),
    (in_gpt(fat), "resize 60M", 11, "FAT file system cannot be resized"),
    (dirty_ntfs, "resize 20M", 8, "chkdsk"),
    (dirty_ntfs, "resize 30M", 8, "chkdsk"),
    pytest.param(in_gpt(dirty_ntfs), "resize 30M", 8, "chkdsk", marks=AS_ROOT),
    (suspended, "resize 30M", 8, "resume it"),
    (in_gpt(suspended), "resize 20M", 8, "resume it"),
    (archive, "growfs", 11, "virtstore uncompress"),
    (archive, "resize 30M", 11, "virtstore uncompress"),
    (overlapping, "growfs", 9, "overlap"),
    (overlapping, "resize minimum", 9, "overlap"),
    (half_a_gpt, "growfs", 9, "gdisk"),
    (half_a_gpt, "resize 60M", 9, "gdisk"),
    (half_a_gpt, "shrinkfs 20M", 9, "gdisk"),
    (hybrid, "resize 60M", 11, "hybrid MBR"),
    (hybrid, "resize 20M", 11, "hybrid MBR"),
    (hybrid, "shrinkfs minimum", 11, "hybrid MBR"),
    (file_system_and_table, "resize 60M", 8, "a partition table and, in the same place"),
    (cut, "growfs", 9, "the image was cut"),
    (cut, "resize 30M", 9, "the image was cut"),
    (cut, "resize minimum", 9, "the image was cut"),
    (damaged_with_space_behind, "resize 40M", 9, "fails its check"),
    (damaged_with_space_behind, "growfs", 9, "fails its check"),
    (damaged_in_a_partition, "resize 60M", 9, "fails its check"),
    (damaged_in_a_partition, "resize 24M", 9, "fails its check"),
    (without_a_size, "growfs", 9, "no size that could be true"),
    (without_a_size, "resize 30M", 9, "no size that could be true"),
    (without_a_size, "shrinkfs minimum", 9, "no size that could be true"),
    (in_gpt(without_a_size), "resize 60M", 9, "no size that could be true"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "line", "status", "why"), REFUSALS)
def test_what_cannot_be_done_is_refused_with_the_image_unchanged(
    sources: Sources, make: Callable[[Sources], Path], line: str, status: int, why: str
) -> None:
    image = make(sources)
    before = image.read_bytes()
    verb, *words = line.split()
    error = told(verb, image, *words, status=status)["error"]
    assert re.search(why, error["message"])
    assert error["path"] == str(image)
    assert image.read_bytes() == before
    assert list(sources.root.iterdir()) == [image]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_smallest_image_that_a_refusal_names_is_possible(sources: Sources, layout: str) -> None:
    made = make_image(sources.root / "x.img", LAYOUTS[layout], "ext4", sources.ext4, sources.files)
    little = made.layout.start + MIB + made.layout.behind
    error = told("resize", made.path, little, status=8)["error"]
    named = re.search(r"smallest image for that has (\d+) bytes", error["message"])
    assert named
    assert told("resize", made.path, named[1])["size"] == int(named[1])
    check(made)


@AS_ROOT
def test_an_image_that_is_attached_is_refused_and_its_loop_device_named(sources: Sources) -> None:
    image = bare(sources)
    before = image.read_bytes()
    loop = tool("losetup", "--find", "--show", str(image)).decode().strip()
    try:
        for line in ("growfs", "shrinkfs minimum", "resize 30M", "resize minimum"):
            verb, *words = line.split()
            error = told(verb, image, *words, status=6)["error"]
            assert loop in error["message"]
    finally:
        tool("losetup", "--detach", loop)
    assert image.read_bytes() == before


@pytest.mark.parametrize("line", ["growfs", "resize 40M"])
def test_of_a_guests_lvm_the_partition_grows_and_pvresize_is_left_to_the_guest(
    sources: Sources, line: str
) -> None:
    image = in_gpt(physical_volume)(sources)
    inside = image.read_bytes()[3 * MIB :][:MADE]
    os.truncate(image, 32 * MIB)
    verb, *words = line.split()
    plan = told(verb, image, *words, "-n")["plan"]
    assert any("partition 2" in step for step in plan)
    done = told(verb, image, *words)
    assert (done["changed"], done["filesystem"]) == (True, None)
    assert "pvresize" in done["warnings"][0]
    size = done["size"]
    assert f"size= {(size - 4 * MIB) // 512}" in re.sub(
        "size= +", "size= ", tool("sfdisk", "--dump", str(image)).decode()
    )
    assert image.read_bytes()[3 * MIB :][:MADE] == inside
    assert b"No errors detected" in tool("sfdisk", "--verify", str(image))


def test_the_headers_that_are_made_here_are_what_blkid_takes_for_real_ones(
    sources: Sources,
) -> None:
    for make, kind in ((luks, b"crypto_LUKS"), (physical_volume, b"LVM2_member")):
        said = subprocess.run(
            ["blkid", "-p", "-o", "value", "-s", "TYPE", make(sources)], capture_output=True
        )
        assert said.stdout.strip() == kind
