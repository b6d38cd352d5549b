"""Images that were cut: what is missing is told, before they grow again and afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB
from tests.tools.partitioned import Part, Told, disk
from tests.tools.resize_images import spoil, virtstore

MISSING = "the last 6291456 bytes (6 MiB) of it are missing"


def cut(image: Path, label: str, holds: str) -> None:
    """By 6 MiB of the file system in it, and all that was behind that."""
    if label == "bare":
        disk(image, "dos", [Part(40, "83", holds)])
        image.write_bytes(image.read_bytes()[MIB:][: 40 * MIB])
        os.truncate(image, 34 * MIB)
    else:
        disk(image, label, [Part(2, "L"), Part(40, "L", holds)])
        os.truncate(image, 37 * MIB)


@pytest.mark.parametrize("label", ["bare", "gpt", "dos"])
@pytest.mark.parametrize("holds", ["ext4", "ntfs", "swap"])
def test_how_much_is_missing_is_said_wherever_somebody_looks(
    image: Path, label: str, holds: str, told: Told
) -> None:
    cut(image, label, holds)
    before = image.read_bytes()
    info = told("info", image)
    assert MISSING in "; ".join(info["warnings"])
    found = info["filesystem"] or info["partitions"][1]["filesystem"]
    assert found["type"] == holds
    for line in ("growfs", "resize 60M", "resize minimum", "shrinkfs 5M", "growfs -n"):
        verb, *words = line.split()
        error = told(verb, image, *words, status=9)["error"]
        assert MISSING in error["message"], line
        assert "virtstore grow'" not in error["message"], line
    assert image.read_bytes() == before
    for words in (["-n"], []):
        done = told("grow", image, "50M", *words)
        assert "before it grew" in done["warnings"][0]
        assert MISSING in done["warnings"][0]
    [warning] = told("grow", image, "51M")["warnings"]
    assert "before it grew" not in warning
    assert f"lacks {6 * MIB} bytes" in warning


def test_grow_says_it_to_a_person_too(image: Path, told: Told) -> None:
    cut(image, "dos", "ext4")
    shown = virtstore("grow", image, "44M").stdout
    assert "note: before it grew" in shown
    assert MISSING in shown


def test_of_a_partition_that_nobody_recognises_it_is_said_too(image: Path, told: Told) -> None:
    disk(image, "dos", [Part(10, "83")])
    spoil(image, 2 * MIB, b"something" * 1000)
    os.truncate(image, 8 * MIB)
    for answer in (told("info", image), told("grow", image, "11M")):
        assert "the last 3145728 bytes (3 MiB)" in "; ".join(answer["warnings"])


def test_one_of_which_only_room_is_missing_gets_that_back(image: Path, told: Told) -> None:
    disk(image, "dos", [Part(40, "83", "ext4", inside=20)])
    os.truncate(image, 30 * MIB)
    assert "ends before that" in told("info", image)["warnings"][-1]
    error = told("resize", image, "50M", status=9)["error"]
    assert f"'virtstore grow' to {41 * MIB} bytes" in error["message"]
    assert "warnings" not in told("grow", image, 41 * MIB)
    assert told("growfs", image)["filesystem"]["size"] == 40 * MIB


def test_a_table_or_file_system_without_its_second_copy_is_not_grown_silently(
    image: Path, told: Told
) -> None:
    cut(image, "gpt", "swap")
    os.truncate(image, 44 * MIB)  # by others, who note nothing
    for done in (told("info", image), told("growfs", image)):
        assert "its partition table (GPT) keeps a copy" in done["warnings"][0]
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-b", "1024", image], check=True)
    os.truncate(image, 50 * MIB)
    os.truncate(image, 64 * MIB)
    assert "keeps a copy of its beginning at byte 58721280" in told("info", image)["warnings"][0]


@pytest.mark.parametrize(
    "options",
    ["-b 1024", "-b 1024 -g 256 -O ^resize_inode", "-O sparse_super2", "-b 4096", "-O bigalloc",
     "-b 1024 -O ^sparse_super,^resize_inode", "-b 1024 -O meta_bg,^resize_inode -g 1024"],
)  # fmt: skip
def test_no_whole_ext_file_system_looks_as_if_it_had_been_cut(
    image: Path, options: str, told: Told
) -> None:
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *options.split(), image], check=True)
    assert "warnings" not in told("info", image)
    if "bigalloc" not in options:
        told("resize", image, "97M")
        assert "warnings" not in told("info", image)
        told("resize", image, "minimum")
        assert "warnings" not in told("info", image)
