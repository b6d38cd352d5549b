"""Which partition a resize is about, and what is said of those in its way."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools.ext_images import MIB
from tests.tools.partitioned import (
    BIOS_BOOT,
    RECOVERY,
    ROOT,
    SWAP,
    WINDOWS,
    Part,
    Told,
    check,
    disk,
    sfdisk,
    starts,
    swap_is_whole,
    texts,
)
from tests.tools.resize_images import spoil, virtstore

UNFORMATTED = Part(8, "L")
LUKS = b"LUKS\xba\xbe\0\x01aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0") + b"sha256"


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_swap_behind_the_root_is_neither_grown_nor_shrunk(
    image: Path, label: str, told: Told
) -> None:
    disk(image, label, [ROOT, SWAP._replace(kind="S")], behind=6)
    before = starts(image)
    error = told("resize", image, "+60M", status=11)["error"]
    assert "partition 2 (swap, 8 MiB) lies between partition 1 and the end" in error["message"]
    error = told("shrink", image, "20M", status=8)["error"]
    way = "'virtstore resize'" if label == "gpt" else "'virtstore resize' with --partition 2"
    assert way in error["message"]
    assert starts(image) == before
    done = told("resize", image, "minimum")
    assert "partition 2 (swap, 8 MiB) lies between" in texts(done)
    assert (done["partition"], done["filesystem"]["type"]) == (1, "ext4")
    assert 25 * MIB <= done["size"] < 26 * MIB
    assert starts(image) == before
    assert not told("resize", image, "minimum")["changed"]
    error = told("resize", image, "20M", status=11)["error"]
    assert f"can be cut to {done['size']} bytes" in error["message"]
    check(image, label)
    swap_is_whole(image, 2)


def test_a_partition_that_is_named_is_the_one_that_changes(image: Path, told: Told) -> None:
    disk(image, "gpt", [ROOT, SWAP])
    done = told("resize", image, "+20M", "--partition", "2")
    assert (done["partition"], done["filesystem"]["type"]) == (2, "swap")
    assert done["filesystem"]["size"] > 27 * MIB
    shown = virtstore("resize", image, "30M", "--partition", "2").stdout
    assert ", partition 2, swap file system " in shown
    assert starts(image)[1] == (MIB, 16 * MIB)
    assert told("resize", image, "40M", "--partition", "7", status=3)
    check(image, "gpt")
    swap_is_whole(image, 2)


@pytest.mark.parametrize(
    ("label", "holds"), [("bare", "ext4"), ("gpt", "ext4"), ("gpt", "swap"), ("dos", "ntfs")]
)
def test_a_dry_run_names_the_partition_and_file_system_as_the_real_one_does(
    image: Path, label: str, holds: str, told: Told
) -> None:
    disk(image, "dos" if label == "bare" else label, [Part(30, "L", holds, inside=24)], behind=9)
    if label == "bare":
        image.write_bytes(image.read_bytes()[MIB:])
    for line in (
        "growfs 26M", "growfs", "growfs", "shrinkfs 20M", "shrinkfs minimum", "resize 50M",
        "resize 40M", "resize minimum", "resize minimum",
    ):  # fmt: skip
        verb, *words = line.split()
        dry, real = told(verb, image, *words, "-n"), told(verb, image, *words)
        assert dry.keys() == real.keys() or "warnings" in dry.keys() ^ real.keys(), line
        assert dry["partition"] == real["partition"] == (None if label == "bare" else 1)
        sizes = dry["filesystem"].pop("size"), real["filesystem"].pop("size")
        assert dry["filesystem"] == real["filesystem"] == {"type": holds}, line
        if "minimum" not in line:
            assert sizes[1] <= sizes[0] < sizes[1] + 8192, line


def test_growfs_says_what_is_in_the_way_and_that_the_end_is_reached(
    image: Path, told: Told
) -> None:
    disk(image, "gpt", [ROOT, SWAP])
    for words in ([], ["--partition", "1"], ["--dry-run"]):
        done = told("growfs", image, *words)
        assert not done["changed"]
        assert texts(done) == (
            "partition 2 (swap, 8 MiB) lies between partition 1 and the end of the disk;"
            " 'virtstore resize' with --move-swap moves that"
        )
        assert "note: partition 2 (swap" in virtstore("growfs", image, *words).stdout
    assert "reaches the end" in texts(told("growfs", image, "--partition", "2"))


def test_the_recovery_partition_behind_windows_stays_as_it_is(image: Path, told: Told) -> None:
    disk(image, "gpt", [Part(1, "U"), Part(20, WINDOWS, "ntfs"), Part(8, RECOVERY, "ntfs")])
    error = told("resize", image, "+60M", status=11)["error"]["message"]
    assert "partition 3 (Windows recovery, ntfs, 8 MiB) lies between partition 2" in error
    disk(image, "dos", [Part(20, "7", "ntfs"), Part(8, "27", "ntfs")])
    error = told("resize", image, "+60M", status=11)["error"]["message"]
    assert "partition 2 (Windows recovery, ntfs, 8 MiB) lies between partition 1" in error


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize(
    "last",
    [Part(8, BIOS_BOOT), Part(8, "9E1A2D38-C612-4316-AA26-8B49521E5A8B"), UNFORMATTED,
     Part(8, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"), Part(8, "L", "fat")],
)  # fmt: skip
def test_free_space_is_cut_whatever_the_last_partition_holds(
    image: Path, label: str, last: Part, told: Told
) -> None:
    if label == "dos":
        last = last._replace(kind="41" if "-" in last.kind else "83")
    for parts in ([ROOT, last], [last]):
        disk(image, label, parts, behind=20)
        before, end = starts(image), sum(p.size for p in parts) + 1
        assert told("resize", image, f"{end + 9}M")["size"] == (end + 9) * MIB
        done = told("resize", image, "minimum")
        assert end * MIB <= done["size"] < (end + 1) * MIB
        assert done["partition"] == 1
        assert starts(image) == before
        error = told("resize", image, f"{end - 4}M", status=11)["error"]
        assert f"{done['size']} bytes" in error["message"] or (last.holds and len(parts) == 1)
        check(image, label)


def test_what_shrink_sends_to_resize_is_done_there(image: Path, told: Told) -> None:
    for parts in ([], [UNFORMATTED]):
        disk(image, "gpt", parts, behind=20)
        error = told("shrink", image, "15M", status=8)["error"]
        assert "'virtstore resize' moves that" in error["message"]
        assert told("resize", image, "15M")["size"] == 15 * MIB
        check(image, "gpt")


def test_a_logical_partition_that_nobody_knows_lets_the_extended_one_be_cut(
    image: Path, told: Told
) -> None:
    with image.open("wb") as file:
        file.truncate(40 * MIB)
    script = "start=1MiB,size=4MiB\nstart=5MiB,size=35MiB,type=5\nstart=6MiB,size=4MiB\n"
    sfdisk(image, f"label: dos\n{script}")
    assert told("resize", image, "20M")["size"] == 20 * MIB
    assert told("resize", image, "minimum")["size"] == 10 * MIB
    check(image, "dos")


def test_what_only_the_guest_can_shrink_is_not_said_to_be_at_its_minimum(
    image: Path, told: Told
) -> None:
    disk(image, "gpt", [ROOT, UNFORMATTED], behind=10)
    spoil(image, 17 * MIB, LUKS)
    spoil(image, 17 * MIB + 168, b"2d1f-luks")
    error = told("resize", image, "minimum", status=11)["error"]
    assert "cryptsetup resize" in error["message"]
    assert told("resize", image, "26M")["partition"] == 2
    check(image, "gpt")
