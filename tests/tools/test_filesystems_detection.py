"""Real images, made by the real mkfs and sfdisk: what is found on them."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents, detect, detect_many, end_of_contents
from virtstore.programs import find

MIB = 1 << 20
NewDevice = Callable[..., Device]


@pytest.fixture
def new_device(tmp_path: Path) -> Iterator[NewDevice]:
    """Makes an image of `size` bytes, of which a tool then makes what it is to be."""
    with ExitStack() as files:

        def make(size: int, *argv: str, stdin: str = "") -> Device:
            path = tmp_path / f"image-{len(list(tmp_path.iterdir()))}"
            file = files.enter_context(path.open("w+b"))
            os.ftruncate(file.fileno(), size)
            if argv:
                _tool(*argv, str(path), stdin=stdin)
            return Device(file.fileno(), size)

        yield make


def _tool(*argv: str, stdin: str = "") -> None:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    subprocess.run([program, *argv[1:]], input=stdin.encode(), capture_output=True, check=True)


def _copy(source: Device, target: Device, offset: int) -> None:
    os.pwrite(target.fd, os.pread(source.fd, source.size, 0), offset)


@pytest.mark.parametrize(
    ("argv", "kind", "size"),
    [
        (("mke2fs", "-q", "-t", "ext2", "-L", "disk"), "ext2", 64 * MIB),
        (("mke2fs", "-q", "-t", "ext3", "-L", "disk"), "ext3", 64 * MIB),
        (("mke2fs", "-q", "-t", "ext4", "-L", "disk"), "ext4", 64 * MIB),
        (
            ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "64bit", "-L", "disk"),
            "ext4",
            64 * MIB,
        ),
        (("mke2fs", "-q", "-r", "0", "-L", "disk"), "ext2", 64 * MIB),
        (("mkfs.xfs", "-q", "-L", "disk"), "xfs", 300 * MIB),
        (("mkfs.btrfs", "-q", "-L", "disk"), "btrfs", 128 * MIB),
        (("mkfs.vfat", "-n", "disk"), "vfat", 64 * MIB),
        (("mkswap", "-L", "disk"), "swap", 64 * MIB),
        (("mkntfs", "-q", "-F", "-Q", "-L", "disk"), "ntfs", 64 * MIB),
    ],
)
def test_a_file_system_is_recognised_with_its_size(
    new_device: NewDevice, argv: tuple[str, ...], kind: str, size: int
) -> None:
    contents = detect(new_device(size, *argv))
    found = contents.filesystem
    assert found
    assert (found.type, found.label, found.size) == (kind, "disk", size)
    assert found.uuid
    assert (contents.partitions, contents.warnings) == ((), ())
    assert end_of_contents(contents) == size


def test_a_file_system_smaller_than_its_image_ends_where_it_ends(new_device: NewDevice) -> None:
    device = new_device(64 * MIB, "mke2fs", "-q")
    os.ftruncate(device.fd, 100 * MIB)
    assert end_of_contents(detect(Device(device.fd, 100 * MIB))) == 64 * MIB


def test_an_image_cut_below_its_file_system_has_a_warning(new_device: NewDevice) -> None:
    device = new_device(64 * MIB, "mke2fs", "-q")
    os.ftruncate(device.fd, 40 * MIB)
    contents = detect(Device(device.fd, 40 * MIB))
    assert "ext2 file system ends at byte 67108864" in contents.warnings[0]
    assert "the image was cut" in contents.warnings[0]
    assert end_of_contents(contents) == 64 * MIB


def test_mbr_partitions_are_found_with_the_logical_ones_and_what_is_in_them(
    new_device: NewDevice,
) -> None:
    table = "label: dos\nsize=10M\nsize=30M,type=5\nstart=12M,size=5M\nstart=20M,size=8M,type=82\n"
    device = new_device(64 * MIB, "sfdisk", "-q", stdin=table)
    _copy(new_device(10 * MIB, "mke2fs", "-q", "-L", "first"), device, MIB)
    _copy(new_device(8 * MIB, "mkswap", "-L", "fifth"), device, 20 * MIB)
    contents = detect(device)
    assert contents.filesystem is None
    assert contents.warnings == ()
    assert [(p.number, p.start, p.size, p.type) for p in contents.partitions] == [
        (1, MIB, 10 * MIB, "83"),
        (2, 11 * MIB, 30 * MIB, "5"),
        (5, 12 * MIB, 5 * MIB, "83"),
        (6, 20 * MIB, 8 * MIB, "82"),
    ]
    inside = [p.filesystem and (p.filesystem.type, p.filesystem.label) for p in contents.partitions]
    assert inside == [("ext2", "first"), None, None, ("swap", "fifth")]
    assert end_of_contents(contents) == 41 * MIB


def _rename_first_gpt_partition(device: Device, name: bytes) -> None:
    """Put a name that sfdisk would not write into a GPT, and mend its checksums."""
    os.pwrite(device.fd, name.ljust(72, b"\0")[:72], 1024 + 56)
    header = bytearray(os.pread(device.fd, 92, 512))
    struct.pack_into("<I", header, 88, zlib.crc32(os.pread(device.fd, 128 * 128, 1024)))
    struct.pack_into("<I", header, 16, 0)
    struct.pack_into("<I", header, 16, zlib.crc32(header))
    os.pwrite(device.fd, header, 512)


def test_gpt_partitions_are_found_whatever_their_names_say(new_device: NewDevice) -> None:
    device = new_device(64 * MIB, "sfdisk", "-q", stdin="label: gpt\nsize=10M,name=x\nsize=20M\n")
    hostile = '"}]\n\\é'.encode("utf-16le") + b"\x00\xd8" + "z".encode("utf-16le")
    _rename_first_gpt_partition(device, hostile)
    contents = detect(device)
    first, second = contents.partitions
    assert (first.number, first.start, first.size) == (1, MIB, 10 * MIB)
    assert first.name
    assert first.name.startswith('"}]?\\é')
    assert first.name.isprintable()
    assert (second.start, second.size, second.name) == (11 * MIB, 20 * MIB, None)
    assert len(second.type) == 36
    assert end_of_contents(contents) == 31 * MIB


def test_a_gpt_whose_image_was_cut_is_not_measured(new_device: NewDevice) -> None:
    device = new_device(64 * MIB, "sfdisk", "-q", stdin="label: gpt\nsize=10M\n")
    os.pwrite(device.fd, bytes(512), 512)
    os.ftruncate(device.fd, 40 * MIB)
    contents = detect(Device(device.fd, 40 * MIB))
    assert "GPT is damaged" in contents.warnings[0]
    assert end_of_contents(contents) is None


def test_a_gpt_for_large_sectors_is_read(new_device: NewDevice) -> None:
    device = new_device(64 * MIB)
    _write_4k_gpt(device, first=256, last=2815)
    contents = detect(device)
    assert [(p.start, p.size) for p in contents.partitions] == [(MIB, 10 * MIB)]
    assert contents.warnings == ()
    assert end_of_contents(contents) == 11 * MIB


@pytest.mark.parametrize("label", ["sun", "sgi"])
def test_a_table_of_another_kind_is_named_and_keeps_everything_from_being_cut(
    new_device: NewDevice, label: str
) -> None:
    contents = detect(new_device(64 * MIB, "sfdisk", "-q", stdin=f"label: {label}\n"))
    assert label in contents.warnings[0]
    assert end_of_contents(contents) is None


def _write_4k_gpt(device: Device, *, first: int, last: int) -> None:
    """A GPT with one partition for sectors of 4096 bytes (UEFI specification, section 5.3)."""
    sectors = device.size // 4096
    entry = struct.pack("<16s16sQQQ72s", b"\x01" * 16, b"\x02" * 16, first, last, 0, b"")
    entries = entry.ljust(128 * 128, b"\0")
    places = ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 5))
    for here, there, table in places:
        head = [b"EFI PART", 0x10000, 92, 0, 0, here, there, 6, sectors - 6]
        tail = [b"\x03" * 16, table, 128, 128, zlib.crc32(entries)]
        packed = struct.pack("<8sIIIIQQQQ16sQIII", *head, *tail)
        head[3] = zlib.crc32(packed)
        packed = struct.pack("<8sIIIIQQQQ16sQIII", *head, *tail)
        os.pwrite(device.fd, packed, here * 4096)
        os.pwrite(device.fd, entries, table * 4096)
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, sectors - 1)
    os.pwrite(device.fd, protective + bytes(48) + b"\x55\xaa", 446)


def test_a_partition_that_lies_behind_the_end_has_a_warning_and_is_not_probed(
    new_device: NewDevice,
) -> None:
    device = new_device(64 * MIB, "sfdisk", "-q", stdin="label: dos\nsize=10M\nsize=40M\n")
    contents = detect(Device(device.fd, 30 * MIB))
    os.ftruncate(device.fd, 30 * MIB)
    assert len(contents.partitions) == 2
    assert "partition 2 ends behind the end" in contents.warnings[0]


def test_two_file_systems_in_one_place_are_not_measured(new_device: NewDevice) -> None:
    device = new_device(300 * MIB, "mkfs.xfs", "-q")
    ext = new_device(64 * MIB, "mke2fs", "-q")
    os.pwrite(device.fd, os.pread(ext.fd, 1024, 1024), 1024)
    contents = detect(device)
    assert contents.filesystem is None
    assert "more than one" in contents.warnings[0]
    assert end_of_contents(contents) is None


def test_a_labels_bytes_are_shown_and_never_believed(new_device: NewDevice) -> None:
    device = new_device(64 * MIB, "mke2fs", "-q", "-O", "^metadata_csum", "-t", "ext4")
    for label, shown in (
        (b"caf\xc3\xa9", "café"),
        (b"x\nTYPE=xfs", "x^JTYPE=xfs"),
        (b"'\"$` \\", "'\"$` \\"),
    ):
        os.pwrite(device.fd, label.ljust(16, b"\0"), 1024 + 0x78)
        found = detect(device).filesystem
        assert found
        assert (found.type, found.label) == ("ext4", shown)


def test_a_blank_image_and_random_bytes_hold_nothing(new_device: NewDevice) -> None:
    blank, noise, empty = new_device(8 * MIB), new_device(8 * MIB), new_device(0)
    os.pwrite(noise.fd, random.Random(7).randbytes(8 * MIB), 0)
    assert [detect(d) for d in (blank, noise, empty)] == [Contents()] * 3


def test_many_images_get_the_answers_that_each_would_get_alone(new_device: NewDevice) -> None:
    noise = new_device(2 * MIB)
    os.pwrite(noise.fd, random.Random(7).randbytes(2 * MIB), 0)
    kinds = [
        new_device(8 * MIB, "mke2fs", "-q", "-L", "one"),
        noise,
        new_device(8 * MIB),
        new_device(8 * MIB, "sfdisk", "-q", stdin="label: dos\nsize=2M\n"),
        new_device(8 * MIB, "mkswap"),
    ]
    alone = [detect(device) for device in kinds]
    plain = [kinds[0], kinds[2], kinds[4]]
    many = detect_many(kinds + plain * 130 + kinds)
    assert many[:5] == alone
    assert many[-5:] == alone
    assert many[5:-5] == [alone[0], alone[2], alone[4]] * 130
