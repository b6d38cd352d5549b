"""resize --move-swap: the swap partition behind the one that is resized goes to the disk's end, on
request only, and only what is shown to be swap and nothing else."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.contract.stores import mounted
from tests.tools.ext_images import MIB, Tree, new_tree, tool
from tests.tools.partitioned import (
    BIOS_BOOT,
    ROOT,
    SWAP,
    SWAP_UUID,
    Part,
    check,
    disk,
    new_image,
    starts,
)
from tests.tools.resize_images import configuration, virtstore, write_configuration
from tests.tools.swap_images import (
    DISKS,
    PAGE,
    SECRET,
    SWAPPED,
    bootable,
    finished,
    make,
    put,
    resized,
    swap_area,
    watched,
)

import virtstore as api


def _physical_volume() -> bytes:
    """LVM's label: lib/format_text/layout.h."""
    rest = struct.pack("<I8s", 32, b"LVM2 001").ljust(492, b"\0")
    checksum = zlib.crc32(rest, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack("<8sQI", b"LABELONE", 1, checksum) + rest


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(60) as tree:
        yield tree


@pytest.fixture
def image() -> Iterator[Path]:
    with new_image() as (path, _):
        yield path


def refused(image: Path, size: str, *, partition: int | None = None) -> api.Error:
    """Why nothing is done; and that nothing was done."""
    before = image.read_bytes()
    with pytest.raises(api.Error) as caught:
        resized(image, size, partition=partition)
    assert image.read_bytes() == before
    return caught.value


@pytest.mark.parametrize("kind", DISKS)
def test_swap_goes_to_the_new_end_and_what_lies_before_it_has_the_room(
    image: Path, tree: Tree, kind: str
) -> None:
    made = make(image, kind, tree)
    for size in ("40M", "30M", "36M", "15M" if kind != "logical" else "18M"):
        plan = resized(image, size, dry_run=True)
        done = resized(image, size)
        places = {number: (start, length) for number, start, length in finished(image, kind, tree)}
        assert done.size == plan.size == image.stat().st_size
        assert done.moved
        assert (done.moved.number, done.moved.size) == (made.swap[0], SWAPPED)
        assert places[made.swap[0]] == (done.moved.start, SWAPPED)
        assert (done.size or 0) - 2 * MIB < done.moved.start + SWAPPED <= (done.size or 0)
        assert f"to byte {done.moved.start}" in "\n".join(plan.plan)
        assert done.partition == made.front[0]
        assert done.filesystem
        gap = done.moved.start - made.front[1] - done.filesystem.size
        assert 0 <= gap <= 2 * MIB
        again = resized(image, size)
        assert (again.changed, again.moved, again.warnings) == (False, None, ())


@pytest.mark.parametrize("kind", DISKS)
def test_the_smallest_image_keeps_the_size_of_the_swap(image: Path, tree: Tree, kind: str) -> None:
    made = make(image, kind, tree)
    done = resized(image, "minimum")
    places = finished(image, kind, tree)
    assert done.size == image.stat().st_size < made.size - 5 * MIB
    assert done.moved
    assert (made.swap[0], done.moved.start, SWAPPED) in places
    assert resized(image, "minimum").moved is None
    assert finished(image, kind, tree) == places
    assert resized(image, "30M").size == 30 * MIB
    finished(image, kind, tree)


def test_it_is_moved_on_request_only_and_the_refusal_names_the_option(
    image: Path, tree: Tree
) -> None:
    make(image, "gpt", tree)
    before = image.read_bytes()
    with api.connect(config=str(configuration(image.parent))) as host:
        at = host.image(str(image))
        with pytest.raises(api.Unsupported, match="--move-swap moves that one to the new end"):
            at.resize("40M")
        assert "--move-swap" in at.growfs().warnings[0]
        resized(image, "40M", dry_run=True)
        assert image.read_bytes() == before
        places = starts(image)
        assert "--move-swap" in at.resize("minimum").warnings[0]
        assert starts(image) == places
        assert at.resize("40M", move_swap=True).moved


def test_what_was_moved_is_told_in_text_and_json(image: Path, tree: Tree) -> None:
    make(image, "dos", tree)
    options = ("--config", configuration(image.parent), "--move-swap")
    plan = virtstore("resize", image, "30M", "-n", *options).stdout
    assert "would move partition 2 (swap, 4 MiB) from byte 13631488 to byte 27262976" in plan
    told = json.loads(virtstore("resize", image, "30M", "--json", *options).stdout)
    moved = {"number": 2, "start": 26 * MIB, "old_start": 13 * MIB, "size": SWAPPED}
    assert (told["changed"], told["partition"], told["moved"]) == (True, 1, moved)
    shown = virtstore("resize", image, "minimum", *options).stdout
    assert "; partition 2 moved from byte 27262976 to " in shown
    same = virtstore("resize", image, "minimum", "--json", *options).stdout
    assert "moved" not in json.loads(same)


def test_where_no_swap_is_in_the_way_the_image_is_resized_and_that_is_said(image: Path) -> None:
    disk(image, "gpt", [SWAP, ROOT])
    done = resized(image, "40M")
    assert (done.changed, done.moved, done.partition) == (True, None, 2)
    assert "none was moved" in done.warnings[0]
    check(image, "gpt")


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_more_than_one_swap_partition_is_not_moved(image: Path, label: str) -> None:
    third = BIOS_BOOT if label == "gpt" else "41"
    for parts in ([ROOT, SWAP, SWAP], [ROOT, SWAP, Part(2, third)], [ROOT, Part(2, third), SWAP]):
        disk(image, label, parts)
        for size in ("60M", "minimum"):
            assert "one partition of swap's type, and nothing else" in refused(image, size).message


@pytest.mark.parametrize(
    ("offset", "data", "says"),
    [
        (PAGE - 10, b"S1SUSPEND\0", "a guest is suspended"),
        (PAGE - 10, b"S2SUSPEND\0", "a guest is suspended"),
        (PAGE - 10, b"ULSUSPEND\0", "a guest is suspended"),
        (0, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c", "a guest is suspended"),
        (PAGE - 10, b"SWAP-SPACE", "no mark that a kernel knows"),
        (PAGE - 10, b"SWAPSPACE3", "not known for swap"),
        (PAGE - 10, b"\x8f\x02random\xff\x11", "not known for swap"),
        (1024, b"\2", "not known for swap"),
        (1028, (SWAPPED // PAGE).to_bytes(4, "little"), "says 4198400 bytes and its place has"),
        (0, b"LUKS\xba\xbe\0\1", "not known for swap"),
        (512, _physical_volume(), "not known for swap"),
    ],
)
def test_what_is_not_a_whole_swap_area_and_nothing_else_is_not_moved(
    image: Path, tree: Tree, offset: int, data: bytes, says: str
) -> None:
    make(image, "gpt", tree)
    put(image, 13 * MIB + offset, data)
    for size in ("40M", "minimum"):
        error = refused(image, size, partition=1)
        assert isinstance(error, api.Unsafe | api.Unsupported | api.Corrupt)
        assert says in error.message


def test_a_partition_that_its_type_does_not_call_swap_is_not_moved(image: Path) -> None:
    for label, kind in (("gpt", "L"), ("dos", "83")):
        disk(image, label, [ROOT, Part(8, kind, "swap")])
        assert "one partition of swap's type, and nothing else" in refused(image, "60M").message


def test_an_unformatted_or_encrypted_swap_partition_is_not_moved(image: Path) -> None:
    disk(image, "gpt", [ROOT, Part(8, "S")])
    assert "not be formatted" in refused(image, "60M").message
    put(image, 17 * MIB, os.urandom(64 << 10))
    assert "encrypted with a key" in refused(image, "60M").message


def test_swap_with_pages_of_another_size_and_bad_pages_keeps_its_header(
    image: Path, tree: Tree
) -> None:
    for options in (("-p", "65536"), ("-p", "8192")):
        make(image, "gpt", tree)
        area = bytearray(swap_area(image.with_name("made"), *options))
        area[1032:1036] = (1).to_bytes(4, "little")  # a bad page
        area[1536:1540] = (7).to_bytes(4, "little")
        area[:8] = b"bootbits"
        put(image, 13 * MIB, bytes(area))
        done = resized(image, "40M")
        assert done.moved
        page = int(options[1])
        data = image.read_bytes()
        assert data[done.moved.start :][:page] == area[:page]
        assert SECRET not in data[: done.moved.start]
        check(image, "gpt")


@pytest.mark.parametrize("kind", ["gpt", "debian", "logical"])
def test_data_that_nobody_recognises_is_neither_moved_upon_nor_cut(
    image: Path, tree: Tree, kind: str
) -> None:
    made = make(image, kind, tree)
    end = made.swap[1] + SWAPPED
    put(image, end + 4096, b"precious")
    for size in (str(made.size), "40M", "minimum", str(made.size - 2 * MIB)):
        message = refused(image, size).message
        assert f"there is data at byte {end + 4096}" in message


def test_data_in_the_partition_behind_its_file_system_is_not_moved_upon(image: Path) -> None:
    disk(image, "gpt", [Part(16, "L", "ext4", inside=10), Part(4, "S")])
    put(image, 17 * MIB, swap_area(image.with_name("made")))
    put(image, 16 * MIB - 4096, b"precious")
    for size in ("minimum", "16M"):
        assert "behind the file system in it" in refused(image, size).message
    assert resized(image, "21M").moved is not None
    assert image.read_bytes()[16 * MIB - 4096 :].startswith(b"precious")
    check(image, "gpt")


def test_a_file_system_that_claims_the_bytes_keeps_them(image: Path) -> None:
    disk(image, "gpt", [Part(10, "L", "ext4", inside=14), Part(4, "S")])
    put(image, 11 * MIB, swap_area(image.with_name("made")))
    for size in ("60M", "minimum", "15M"):
        assert refused(image, size).exit_status == 8
    disk(image, "dos", [Part(4, "83", "ext4", inside=40), Part(8, "83", "ext4"), SWAP])
    for size in ("60M", "minimum"):
        assert refused(image, size).exit_status == 8


def test_a_growth_too_small_to_move_by_says_the_smallest(image: Path, tree: Tree) -> None:
    made = make(image, "extended", tree)
    error = refused(image, str(made.size + 512))
    least = int(error.message.split(" is ")[1].split(" bytes")[0])
    assert resized(image, least).moved
    finished(image, "extended", tree)


def test_a_root_that_cannot_shrink_keeps_its_place_and_swap_moves_up_to_it(image: Path) -> None:
    disk(image, "gpt", [Part(10, "L"), Part(4, "S")], behind=20)
    put(image, 11 * MIB, swap_area(image.with_name("made")))
    put(image, MIB, b"XFSB" + bytes(60))
    before = starts(image)
    done = resized(image, "minimum", partition=1)
    assert "was not shrunk" in done.warnings[0]
    assert starts(image) == before
    assert done.size == image.stat().st_size < 16 * MIB


def test_the_label_and_uuid_are_what_swaplabel_finds(image: Path, tree: Tree) -> None:
    make(image, "debian", tree)
    done = resized(image, "40M")
    assert done.moved
    area = image.with_name("area")
    area.write_bytes(image.read_bytes()[done.moved.start :][:SWAPPED])
    told = tool("swaplabel", str(area)).decode()
    assert SWAP_UUID in told
    assert "swap é" in told
    bootable(image, "debian", tree)


@pytest.mark.parametrize("size", ["40M", "minimum"])
def test_a_second_one_is_refused_from_the_first_write_of_the_first_to_its_last(
    image: Path, tree: Tree, size: str
) -> None:
    make(image, "gpt", tree)
    moments = 0

    def second(*_: object) -> None:
        nonlocal moments
        moments += 1
        assert isinstance(refused(image, "30M"), api.InUse)

    with watched(image, second):
        assert resized(image, size).moved
    assert moments > 8
    finished(image, "gpt", tree)


def test_of_two_at_once_one_is_done_or_one_after_the_other(image: Path, tree: Tree) -> None:
    make(image, "gpt", tree)
    config = str(configuration(image.parent))

    def resize(size: int) -> int | None:
        with api.connect(config=config) as host:
            try:
                return host.image(str(image)).resize(size, move_swap=True).size
            except api.InUse:
                return None

    sizes = {30 * MIB, 40 * MIB}
    with ThreadPoolExecutor(2) as pool:
        done = set(pool.map(resize, sizes)) - {None}
    assert done <= sizes
    assert image.stat().st_size in done
    finished(image, "gpt", tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system that can be filled")
def test_on_a_full_disk_nothing_is_begun_and_with_room_the_same_command_does_it(
    tmp_path: Path, tree: Tree
) -> None:
    with mounted(tmp_path, 64 * MIB, "mke2fs", "-q", "-t", "ext4", "-m", "0") as place:
        place.chmod(0o700)
        write_configuration(place)
        image, filler = place / "x.img", place / "filler"
        make(image, "gpt", tree)
        tool("fallocate", "-d", str(image))
        for size in ("40M", "minimum"):
            with filler.open("wb") as file:
                room = os.statvfs(place)
                os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - MIB)
            assert isinstance(refused(image, size), api.NoSpace)
            filler.unlink()
            assert resized(image, size).moved
            finished(image, "gpt", tree)
            tool("fallocate", "-d", str(image))
