"""A file system that is larger than its partition: nothing is written into what it claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools.ext_images import MIB
from tests.tools.partitioned import ROOT, Part, Told, check, disk, sfdisk, starts
from tests.tools.resize_images import spoil

#: 16 MiB, of which the table knows 10.
OUTGROWN = Part(10, "L", "ext4", inside=16)
COMMANDS = (
    "resize minimum", "resize 18M", "resize 60M", "growfs", "growfs --partition 1",
    "shrinkfs minimum", "shrinkfs minimum --partition 1", "resize 29M --partition 1",
)  # fmt: skip


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize(("holds", "size"), [("ext4", 16), ("swap", 16), ("ntfs", 16)])
def test_one_that_was_grown_by_hand_is_warned_of_and_growfs_mends_it(
    image: Path, label: str, holds: str, size: int, told: Told
) -> None:
    disk(image, label, [Part(10, "L", holds, inside=size)], behind=12)
    [warning] = told("info", image)["warnings"]
    assert "growfs' with --partition 1" in warning
    for line in ("resize minimum", "shrinkfs minimum", "resize 12M"):
        verb, *words = line.split()
        error = told(verb, image, *words, status=8)["error"]
        assert "it was grown, and its partition was not" in error["message"]
        assert "the image was cut" not in error["message"]
    [refused] = told("shrink", image, "15M", status=8).values()
    way = "'virtstore resize'" if label == "gpt" else "growfs' with --partition 1"
    assert way in refused["message"]
    assert told("growfs", image)["changed"]
    assert "warnings" not in told("info", image) or holds == "ntfs"
    check(image, label)
    if holds != "ntfs":
        told("resize", image, "minimum")
        check(image, label)


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_nothing_is_written_where_two_file_systems_claim_the_same_bytes(
    image: Path, label: str, told: Told
) -> None:
    disk(image, label, [OUTGROWN, Part(16, "L", "ext4")], behind=4)
    told_of = told("info", image)["warnings"][0]
    assert "partition 2 lies upon the end of it" in told_of
    before = image.read_bytes()
    for line in COMMANDS:
        verb, *words = line.split()
        error = told(verb, image, *words, status=8)["error"]
        assert "partition" in error["message"]
        assert image.read_bytes() == before, line


def test_a_second_copy_of_a_table_is_not_written_into_a_file_system(
    image: Path, told: Told
) -> None:
    disk(image, "gpt", [ROOT._replace(size=4), OUTGROWN], behind=1)
    with image.open("r+b") as file:
        file.truncate(22 * MIB)  # 5 to 21 MiB are claimed
    before = image.read_bytes()
    for line in ("resize 21M", "resize 18M", "shrinkfs 2M --partition 1"):
        verb, *words = line.split()
        assert told(verb, image, *words, status=8), line
        assert image.read_bytes() == before, line
    disk(image, "gpt", [Part(4, "L"), OUTGROWN._replace(inside=11)], behind=1)
    spoil(image, 16 * MIB - 4096, bytes(4096))
    before = image.read_bytes()
    assert told("resize", image, "15800K", "--partition", "1", status=8)
    assert image.read_bytes() == before


def test_a_logical_partitions_sector_is_not_written_into_a_file_system(
    image: Path, told: Told
) -> None:
    disk(image, "dos", [OUTGROWN], behind=40)
    script = "start=11MiB,size=30MiB,type=5\nstart=20MiB,size=8MiB\n"
    sfdisk(image, script, "--append")
    other = disk(image.with_name("y.img"), "dos", [Part(8, "83", "ext4")])
    spoil(image, 20 * MIB, other.read_bytes()[MIB:][: 8 * MIB])
    before = image.read_bytes()
    assert len(starts(image)) == 3
    for line in ("resize 60M", "growfs", "resize minimum", "shrinkfs 4M --partition 5"):
        verb, *words = line.split()
        assert told(verb, image, *words, status=8), line
        assert image.read_bytes() == before, line
