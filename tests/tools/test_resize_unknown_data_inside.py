"""What lies behind a file system and inside its partition is somebody's: a resize does not cut the
partition before it, and what is known to lie at a partition's end keeps that as it is."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB, tool
from tests.tools.partitioned import Part, Told, check, disk, seen, starts, texts
from tests.tools.resize_images import spoil

#: Partition 2 is from 3 to 43 MiB, and its file system has the first 20 of that.
START = 3 * MIB
PRECIOUS = 35 * MIB


def half_full(image: Path, label: str, holds: str) -> None:
    disk(image, label, [Part(2, "L"), Part(40, "L", holds, inside=20)], behind=4)


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize("holds", ["ext4", "swap", "ntfs"])
def test_a_partition_is_not_cut_before_data_that_nobody_recognises(
    image: Path, label: str, holds: str, told: Told
) -> None:
    half_full(image, label, holds)
    spoil(image, PRECIOUS, b"precious")
    before = image.read_bytes()
    for line in ("resize minimum", "resize minimum -n", "resize 30M", "resize 35M"):
        verb, *words = line.split()
        error = told(verb, image, *words, status=8)["error"]
        assert f"data at byte {PRECIOUS} (35 MiB), in partition 2" in error["message"], line
        assert image.read_bytes() == before, line
    told("resize", image, "37M")
    assert image.read_bytes()[PRECIOUS:][:8] == b"precious"
    assert starts(image)[2][0] + starts(image)[2][1] > PRECIOUS
    check(image, label)


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_the_commands_that_are_named_cut_it_off(image: Path, label: str, told: Told) -> None:
    half_full(image, label, "ext4")
    spoil(image, PRECIOUS, b"precious")
    done = told("shrinkfs", image, "20M")
    assert "it stays where it is" in texts(done)
    assert image.read_bytes()[PRECIOUS:][:8] == b"precious"
    assert starts(image)[2] == (START, 20 * MIB)
    assert told("resize", image, "minimum", status=8)
    os.truncate(image, 30 * MIB)  # as `shrink --discard-data`
    told("resize", image, "minimum")
    check(image, label)


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize("holds", ["ext4", "swap", "ntfs"])
def test_what_our_own_resizes_leave_stops_none(
    image: Path, label: str, holds: str, told: Told
) -> None:
    half_full(image, label, holds)
    spoil(image, START + 20 * MIB, bytes(20 * MIB))
    for line in (
        "growfs", "shrinkfs 12M", "growfs 17333333", "resize 31M", "resize 44444444",
        "shrinkfs 19999744", "resize 28M", "growfs", "resize minimum", "resize 50M",
        "resize minimum",
    ):  # fmt: skip
        verb, *words = line.split()
        done = told(verb, image, *words)
        assert "nobody recognises" not in texts(done), line
    check(image, label)


def test_the_copy_of_a_boot_sector_that_ntfsfix_makes_stops_none(image: Path, told: Told) -> None:
    half_full(image, "dos", "ntfs")
    part = image.with_name("part")
    part.write_bytes(image.read_bytes()[START:][: 40 * MIB])
    tool("ntfsfix", "-d", str(part))
    spoil(image, START, part.read_bytes())
    assert image.read_bytes()[START + 40 * MIB - 512 :][:512] == part.read_bytes()[:512]
    assert told("resize", image, "minimum")["changed"]


def md(minor: int, size: int) -> tuple[int, bytes]:
    """The metadata of a mirror, versions 0.90 and 1.0: its byte of a device, and what it is.
    Sources: the kernel's include/uapi/linux/raid/md_p.h, md_super_0_90 and md_super_1."""
    if minor:
        offset = (size // 512 - 16) // 8 * 8 * 512
        raw = bytearray(256)
        struct.pack_into("<III", raw, 0, 0xA92B4EFC, 1, 0)
        raw[16:32] = b"uuid of an array"
        struct.pack_into("<Q", raw, 144, offset // 512)  # where it lies itself
        words = struct.unpack("<64I", raw)
        total = sum(words)
        struct.pack_into("<I", raw, 216, (total & 0xFFFFFFFF) + (total >> 32))
        return offset, bytes(raw)
    raw = bytearray(4096)
    struct.pack_into("<III", raw, 0, 0xA92B4EFC, 0, 90)
    raw[20:24] = b"uuid"
    raw[52:64] = b"of an array."
    words = struct.unpack("<1024I", raw)
    struct.pack_into("<I", raw, 152, (sum(words) & 0xFFFFFFFF) + (sum(words) >> 32))
    return (size & ~0xFFFF) - 0x10000, bytes(raw)


def drbd(version: int, size: int) -> tuple[int, bytes]:
    """DRBD's internal metadata. Source: drbd-utils, user/shared/drbdmeta.c."""
    raw = bytearray(4096)
    magic = {8: 0x8374026B, 84: 0x8374026C, 9: 0x8374026D}[version]
    struct.pack_into(">Q", raw, 0, size // 512)
    struct.pack_into(">I", raw, 60, magic)
    return (size & ~4095) - 4096, bytes(raw)


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize(
    ("kind", "made_of"),
    [("md 1.0", md(1, 40 * MIB)), ("md 0.90", md(0, 40 * MIB)), ("drbd 8", drbd(8, 40 * MIB)),
     ("drbd 8.4", drbd(84, 40 * MIB)), ("drbd 9", drbd(9, 40 * MIB))],
)  # fmt: skip
def test_what_lies_at_a_partitions_end_keeps_the_partition_as_it_is(
    image: Path, label: str, kind: str, made_of: tuple[int, bytes], told: Told
) -> None:
    half_full(image, label, "ext4")
    offset, raw = made_of
    spoil(image, START + offset, raw)
    found = seen(image).partitions[1].filesystem
    assert (found and found.type) == ("drbd" if "drbd" in kind else "linux_raid_member")
    before = image.read_bytes()
    for line in ("resize 40M", "resize 25M", "shrinkfs 12M", "growfs", "resize 60M"):
        verb, *words = line.split()
        assert told(verb, image, *words, status=11), line
        assert image.read_bytes() == before, line
    told("resize", image, "44M")  # what is free behind the partition
    assert starts(image)[2] == (START, 40 * MIB)
    assert image.read_bytes()[START + offset :][: len(raw)] == raw


def test_nothing_is_said_of_a_partition_that_ends_with_its_file_system(
    image: Path, told: Told
) -> None:
    disk(image, "dos", [Part(2, "83"), Part(20, "83", "ext4")])
    assert texts(told("shrinkfs", image, "minimum")) == ""
    assert b"No errors detected" in tool("sfdisk", "--verify", str(image))
