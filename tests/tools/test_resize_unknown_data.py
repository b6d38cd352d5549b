"""What nobody recognises behind a file system is somebody's: a resize does not cut it off."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import virtstore

MIB = 1 << 20
MARK = "user.virtstore.shrinking"


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """64 MiB: an ext4 file system of 32, and at 50 something else."""
    root = tmp_path / "images"
    root.mkdir(mode=0o700)
    (tmp_path / "config.toml").write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(tmp_path / "config.toml"))
    path = root / "x.img"
    path.touch()
    os.truncate(path, 64 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path, "32M"], check=True)
    with path.open("r+b") as file:
        file.seek(50 * MIB)
        file.write(b"precious")
    return path


@pytest.mark.parametrize("size", ["40M", "minimum"])
def test_it_is_refused_and_nothing_has_changed(image: Path, size: str) -> None:
    before = image.read_bytes()
    with virtstore.connect() as host, pytest.raises(virtstore.Unsafe, match=str(50 * MIB)):
        host.image(str(image)).resize(size)
    assert image.read_bytes() == before


def interrupt(image: Path) -> None:
    """What a shrink leaves that was killed when the file system, which filled the image, had become
    smaller."""
    size = image.stat().st_size
    said = subprocess.run(["blkid", "-p", "-o", "value", "-s", "UUID", image], capture_output=True)
    uuid = said.stdout.decode().strip()
    os.setxattr(image, MARK, f"{size} ext4 {uuid} at 0 of {size}".encode())


def test_what_an_interrupted_resize_left_there_is_cut_by_the_next(image: Path) -> None:
    interrupt(image)
    with virtstore.connect() as host:
        assert host.image(str(image)).resize("40M").size == 40 * MIB
    assert os.listxattr(image) == []
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


def test_what_an_interrupted_resize_left_says_nothing_of_another_file_system(image: Path) -> None:
    interrupt(image)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image, "32M"], check=True)
    with virtstore.connect() as host, pytest.raises(virtstore.Unsafe, match=str(50 * MIB)):
        host.image(str(image)).resize("40M")


def test_what_an_interrupted_resize_left_says_nothing_of_contents_that_came_since(
    image: Path,
) -> None:
    golden = image.with_name("golden.img")
    golden.write_bytes(image.read_bytes())
    interrupt(image)
    with image.open("r+b") as file:
        file.seek(40 * MIB)
        file.write(b"remnants")
    with virtstore.connect() as host:
        host.image(str(golden)).copy_contents(host.image(str(image)))
        assert os.listxattr(image) == []
        with pytest.raises(virtstore.Unsafe, match=str(50 * MIB)):
            host.image(str(image)).resize("40M")
    assert image.read_bytes() == golden.read_bytes()


@pytest.mark.parametrize("command", ["resize", "shrinkfs"])
def test_a_shrink_that_was_refused_says_nothing_of_what_comes_later(
    image: Path, command: str
) -> None:
    with image.open("r+b") as file:
        file.truncate(32 * MIB)
    # A file that is a directory: e2fsck does not mend that unasked.
    for damage in ("mkdir a", "mkdir b", "set_inode_field b mode 0100644"):
        subprocess.run(["debugfs", "-w", "-R", damage, image], check=True, capture_output=True)
    with virtstore.connect() as host, pytest.raises(virtstore.Corrupt):
        getattr(host.image(str(image)), command)("20M")
    assert os.listxattr(image) == []


def test_what_a_grown_file_system_was_before_is_forgotten(image: Path) -> None:
    interrupt(image)
    with virtstore.connect() as host:
        host.image(str(image)).growfs("40M")
    assert os.listxattr(image) == []


def test_what_shrinkfs_vacates_is_zero_so_that_shrink_can_cut_it(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(32 * MIB)
    contents = image.parent / "contents"
    contents.write_bytes(b"\xaa" * (4 * MIB))
    writes = [f"write {contents} f{n}" for n in range(4)]
    for command in (*writes, "rm f0", "rm f1", "rm f2"):
        subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    with virtstore.connect() as host:
        shrunk = host.image(str(image)).shrinkfs("minimum").filesystem
        least = shrunk.size if shrunk else 0
        assert 4 * MIB < least < 24 * MIB
        assert not any(image.read_bytes()[least:])
        assert host.image(str(image)).shrink(least).size == least
