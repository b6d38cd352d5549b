"""What is in an archive is told from a few of its blocks, and damage in them fails nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests import ours

from virtstore.agent.operations.archive_contents import MOST_BLOCKS, look_into
from virtstore.digest import CHUNK, ZEROS
from virtstore.programs import find

MIB = 1 << 20


class Archive:
    """An archive in memory that counts what is read of it."""

    def __init__(self, image: Path) -> None:
        packed = bytearray()
        writer = ours.Writer(packed.extend)
        with image.open("rb") as file:
            for at in range(0, image.stat().st_size, CHUNK):
                held = _next_data(file.fileno(), at) < at + CHUNK
                writer.write(os.pread(file.fileno(), CHUNK, at) if held else ZEROS)
        writer.finish()
        self.packed, self.reads = packed, 0

    @property
    def size(self) -> int:
        return len(self.packed)

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return bytes(self.packed[offset : offset + length])


def _next_data(fd: int, at: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError:  # nothing but a hole follows
        return 1 << 62


def _tool(*argv: str, stdin: str = "") -> None:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    subprocess.run([program, *argv[1:]], input=stdin.encode(), capture_output=True, check=True)


@pytest.fixture(params=["gpt", "dos"])
def image(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """4 GiB, nearly all of it hole, with a file system in its last partition."""
    path, part = tmp_path / "image", tmp_path / "part"
    for each, size in ((path, 4 << 30), (part, 64 * MIB)):
        each.touch()
        os.truncate(each, size)
    middle = "size=2G" if request.param == "gpt" else "size=3G,type=5\nstart=1G,size=1G"
    script = f"label: {request.param}\nsize=64M\n{middle}\nstart=3G,size=64M\n"
    _tool("sfdisk", "-q", "--no-tell-kernel", str(path), stdin=script)
    _tool("mke2fs", "-q", "-t", "ext4", "-L", "inside", str(part))
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), part.read_bytes(), 3 << 30)
        os.pwrite(
            file.fileno(), os.urandom(40 * MIB), (1 << 30) + 64 * MIB
        )  # blocks that nobody needs
    return path


def test_a_few_blocks_of_an_archive_tell_what_is_in_it(image: Path) -> None:
    archive = Archive(image)
    contents = look_into(archive)
    assert contents.warnings == ()
    last = contents.partitions[-1].filesystem
    assert last
    assert (last.type, last.label, last.size) == ("ext4", "inside", 64 * MIB)
    assert archive.reads < 20


def test_a_damaged_block_is_a_warning(image: Path) -> None:
    archive = Archive(image)
    archive.packed[20] ^= 0xFF
    contents = look_into(archive)
    assert contents.partitions == ()
    assert "not looked at" in contents.warnings[0]
    assert archive.reads < MOST_BLOCKS
