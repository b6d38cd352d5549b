"""The second copy of a GPT lies at the end of its disk, and never upon what nobody recognises."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

MIB = 1 << 20
#: Bytes of a second copy.
COPY = 33 * 512


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir(mode=0o700)
    return tmp_path / "images"


@pytest.fixture
def host(root: Path, tmp_path: Path) -> Iterator[virtstore.Host]:
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    with virtstore.connect(config=str(config)) as host:
        yield host


@pytest.fixture
def image(root: Path) -> Path:
    """A GPT on 100 MiB, with an ext4 file system in a partition that ends at 41."""
    path = root / "x.img"
    path.touch()
    os.truncate(path, 100 * MIB)
    script = "label: gpt\nstart=1MiB, size=40MiB\n"
    subprocess.run(["sfdisk", "-q", "--no-tell-kernel", path], input=script.encode(), check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", f"offset={MIB}", path, "40M"], check=True)
    return path


def put(image: Path, offset: int) -> int:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"precious")
    return offset


def check(image: Path) -> None:
    said = subprocess.run(["sgdisk", "-v", image], capture_output=True, text=True)
    assert "No problems found" in said.stdout, said.stdout
    with image.open("rb") as file:
        file.seek(MIB)
        image.with_name("part").write_bytes(file.read(40 * MIB))
    subprocess.run(["e2fsck", "-fn", image.with_name("part")], check=True, capture_output=True)


@pytest.mark.parametrize("place", [60 * MIB - COPY, 60 * MIB - 12 * 1024, 60 * MIB - 8])
def test_a_resize_to_where_data_lies_before_its_end_is_refused(
    image: Path, host: virtstore.Host, place: int
) -> None:
    put(image, place)
    before = image.read_bytes()
    for size in ("60M", "minimum"):
        for dry_run in (True, False):
            with pytest.raises(virtstore.Unsafe, match=f"data at byte {place}"):
                host.image(str(image)).resize(size, dry_run=dry_run)
    assert image.read_bytes() == before


def test_data_that_the_copy_does_not_come_to_lie_upon_is_kept(
    image: Path, host: virtstore.Host
) -> None:
    place = put(image, 60 * MIB - COPY - 8)
    host.image(str(image)).resize("60M")
    check(image)
    assert image.read_bytes()[place : place + 8] == b"precious"


@pytest.mark.parametrize("command", [("growfs", "45M"), ("growfs",), ("shrinkfs", "30M")])
def test_a_table_is_not_moved_to_where_data_lies_at_the_end(
    image: Path, host: virtstore.Host, command: tuple[str, ...]
) -> None:
    os.truncate(image, 110 * MIB)
    place = put(image, 110 * MIB - 12 * 1024)
    before = image.read_bytes()
    name, *size = command
    with pytest.raises(virtstore.Unsafe, match=f"data at byte {place}"):
        getattr(host.image(str(image)), name)(*size)
    assert image.read_bytes() == before


def test_data_at_the_end_where_there_is_no_copy_is_not_cut_off(
    image: Path, host: virtstore.Host
) -> None:
    os.truncate(image, 110 * MIB)
    place = put(image, 110 * MIB - 12 * 1024)
    before = image.read_bytes()
    with pytest.raises(virtstore.Unsafe, match=f"data at byte {place}"):
        host.image(str(image)).resize("60M")
    assert image.read_bytes() == before


@pytest.mark.parametrize("size", ["105M", "100M", "60M", "minimum"])
def test_the_copy_of_a_disk_that_was_grown_is_not_taken_for_data(
    image: Path, host: virtstore.Host, size: str
) -> None:
    at = host.image(str(image))
    at.grow("110M")
    at.resize(size)
    check(image)


def test_a_resize_leaves_nothing_behind_that_the_next_would_take_for_data(
    image: Path, host: virtstore.Host
) -> None:
    contents = image.with_name("contents")
    contents.write_bytes(b"\xaa" * (9 * MIB))
    place = f"{image}?offset={MIB}"
    for command in (*(f"write {contents} f{n}" for n in range(4)), "rm f0", "rm f1", "rm f2"):
        subprocess.run(["debugfs", "-w", "-R", command, place], check=True, capture_output=True)
    at = host.image(str(image))
    # A partition ends on a whole MiB, and what lies behind that was the file system's.
    for size in (36 * MIB, 32 * MIB + 512 * 1001, 28 * MIB + 4096, "minimum"):
        done = at.resize(size)
        assert size in (done.size, "minimum")
    said = subprocess.run(["sgdisk", "-v", image], capture_output=True, text=True)
    assert "No problems found" in said.stdout


def test_a_copy_that_was_written_where_the_disk_was_not_cut_yet_is_not_taken_for_data(
    image: Path, host: virtstore.Host
) -> None:
    """As a resize leaves it that was killed before its last step."""
    for size in ("60M", "minimum"):
        whole = host.image(str(image)).resize(size)
        os.truncate(image, 100 * MIB)
        assert host.image(str(image)).resize(size).size == whole.size
        check(image)
