"""Second copies of a GPT that other tools, and our own growths, left where a disk ended before."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.tools.ext_images import fsck, opened, tool
from tests.tools.resize_images import configuration, new_root
from tests.unit.test_filesystems_gpt import gpt_image

import virtstore
from virtstore.filesystems.partitions.change import read_table

MIB = 1 << 20
COPY = 33 * 512
SGDISK = ("sgdisk", "-e")
SFDISK = ("sfdisk", "-q", "--no-tell-kernel", "--relocate", "gpt-bak-std")


@pytest.fixture
def root() -> Iterator[Path]:
    with new_root() as root:
        yield root


@pytest.fixture
def host(root: Path) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(configuration(root))) as host:
        yield host


@pytest.fixture
def image(root: Path) -> Path:
    """A GPT on 60 MiB; its last partition, with ext4 in it, takes all that there is."""
    path = root / "x.img"
    path.touch()
    os.truncate(path, 60 * MIB)
    script = b"label: gpt\nfirst-lba: 2048\nsize=2MiB\nsize=+\n"
    subprocess.run(["sfdisk", "-q", "--no-tell-kernel", path], input=script, check=True)
    start, end = last_partition(path)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={start}", str(path),
         f"{(end - start) // 4096 * 4}k")  # fmt: skip
    return path


def last_partition(path: Path) -> tuple[int, int]:
    found = json.loads(tool("sfdisk", "-J", str(path)))["partitiontable"]["partitions"][-1]
    return found["start"] * 512, (found["start"] + found["size"]) * 512


def grown_by(path: Path, how: tuple[str, ...], size: int) -> None:
    os.truncate(path, size)
    tool(*how, str(path))


def check(path: Path) -> None:
    assert b"No problems found" in tool("sgdisk", "-v", str(path))
    start, end = last_partition(path)
    with opened(path) as device:
        fsck(device.part(start, end - start))


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("how", [SGDISK, SFDISK], ids=["sgdisk", "sfdisk"])
@pytest.mark.parametrize("size", ["minimum", "50M", "75M"])
def test_copies_that_other_tools_left_behind_do_not_keep_a_resize_from_cutting(
    image: Path, host: virtstore.Host, how: tuple[str, ...], size: str
) -> None:
    for megabytes in (70, 80, 90):
        grown_by(image, how, megabytes * MIB)
    assert host.image(str(image)).resize(size).changed
    check(image)


@pytest.mark.parametrize("by", [512, 4096, 8192, COPY - 512])
def test_copies_that_lie_one_upon_another_do_not_either(
    image: Path, host: virtstore.Host, by: int
) -> None:
    for times in range(1, 6):
        grown_by(image, SGDISK, 60 * MIB + times * by)
    host.image(str(image)).resize("minimum")
    check(image)


@pytest.mark.parametrize("left", ["array", "header", "old array"])
def test_what_is_left_of_one_does_not_either(image: Path, host: virtstore.Host, left: str) -> None:
    if left == "old array":  # one that the table has not any more, and its header vouches for
        tool("sgdisk", "-c", "1:old name", str(image))
    grown_by(image, SGDISK, 80 * MIB)
    if left == "old array":
        tool("sgdisk", "-c", "1:name", str(image))
    elif left == "array":
        put(image, 60 * MIB - 512, bytes(512))
    else:
        put(image, 60 * MIB - COPY, bytes(COPY - 512))
    host.image(str(image)).resize("minimum")
    check(image)


@pytest.mark.parametrize("place", [-COPY, -1024, -512, 0])
@pytest.mark.parametrize("data", ["data", "header of another disk"])
def test_what_lies_upon_or_beside_one_is_refused_untouched(
    image: Path, host: virtstore.Host, place: int, data: str
) -> None:
    grown_by(image, SGDISK, 80 * MIB)
    other = bytes(gpt_image()[512:1024])  # a header with its checksum, and its own GUID
    put(image, 60 * MIB + place, b"precious" if data == "data" else other)
    before = image.read_bytes()
    with pytest.raises(virtstore.Unsafe, match=f"data at byte {60 * MIB + place}"):
        host.image(str(image)).resize("minimum")
    assert image.read_bytes() == before


def test_an_array_without_a_header_that_is_not_the_tables_any_more_is_refused(
    image: Path, host: virtstore.Host
) -> None:
    tool("sgdisk", "-c", "1:old name", str(image))
    grown_by(image, SGDISK, 80 * MIB)
    tool("sgdisk", "-c", "1:name", str(image))
    put(image, 60 * MIB - 512, bytes(512))
    with pytest.raises(virtstore.Unsafe, match=f"data at byte {60 * MIB - COPY}"):
        host.image(str(image)).resize("minimum")


@pytest.mark.parametrize("sizes", [(80, 100), (60.0078125, 60.015625)])
def test_growths_of_our_own_leave_no_copy_where_the_disk_ended(
    image: Path, host: virtstore.Host, sizes: tuple[float, float]
) -> None:
    at = host.image(str(image))
    for size in sizes:
        at.grow(int(size * MIB))
        at.growfs()
        tool("sgdisk", "-c", f"1:{size}", str(image))  # the arrays differ from here on
    behind = last_partition(image)[1]
    assert image.read_bytes()[behind:-COPY] == bytes(image.stat().st_size - COPY - behind)
    at.resize("minimum")
    check(image)


def test_an_image_that_was_cut_right_behind_its_last_partition_shrinks(
    image: Path, host: virtstore.Host
) -> None:
    os.truncate(image, last_partition(image)[1])
    for dry_run in (True, False):
        done = host.image(str(image)).resize("minimum", dry_run=dry_run)
        assert (done.size or 0) < 40 * MIB
    check(image)


def test_growing_in_such_an_image_is_refused_and_the_size_named_that_has_room(
    image: Path, host: virtstore.Host
) -> None:
    end = last_partition(image)[1]
    os.truncate(image, end)
    at = host.image(str(image))
    for dry_run in (True, False):
        for change in (
            partial(at.growfs),
            partial(at.growfs, partition=2),
            partial(at.resize, end),
        ):
            with pytest.raises(virtstore.UsageError, match=f"needs {end + COPY}"):
                change(dry_run=dry_run)
    at.resize(end + COPY)
    check(image)


def test_a_disk_of_larger_sectors_is_no_different(image: Path, host: virtstore.Host) -> None:
    """As one of 4096 bytes that was 40 MiB, then 50 and 60."""
    scale = 8
    whole = [gpt_image(((2048, 2048 * 30 - 1),), sector=4096, size=n * MIB) for n in (40, 50, 60)]
    copy = (4 + 1) * 512 * scale
    made = whole[-1]
    for each in whole[:-1]:
        made[len(each) - copy : len(each)] = each[-copy:]
    image.write_bytes(made)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={MIB}", str(image), "29M")
    put(image, 40 * MIB - 4096, bytes(4096))  # of the oldest, only the array is left
    done = host.image(str(image)).resize("minimum")
    with opened(image) as device:
        table = read_table(device)
        [partition] = table.partitions
        assert (table.damage, table.warnings) == (None, ())
        assert partition.start + partition.size + copy <= (done.size or 0) < 40 * MIB
        fsck(device.part(partition.start, partition.size))


def test_a_shrink_names_a_copy_that_is_left_behind_and_the_resize_that_it_tells_of_cuts_it_off(
    image: Path, host: virtstore.Host
) -> None:
    at = host.image(str(image))
    at.shrinkfs("30M")
    old_end = 60 * MIB
    grown_by(image, SGDISK, 80 * MIB)
    os.truncate(image, 79 * MIB)
    [warning] = at.info().warnings
    assert "nothing of its partitions is missing; 'virtstore resize'" in warning
    with pytest.raises(virtstore.Unsafe, match="'virtstore resize' to the size"):
        at.shrink("50M")
    put(image, old_end + 4096, b"precious")
    with pytest.raises(virtstore.Unsafe, match=f"data at byte {old_end + 4096}"):
        at.shrink("60M")
    put(image, old_end + 4096, bytes(8))
    assert at.resize("50M").size == 50 * MIB
    assert not at.info().warnings
    check(image)
