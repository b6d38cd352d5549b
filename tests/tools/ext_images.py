"""Real ext images: made with files in them, checked, and read back, by e2fsprogs itself."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from virtstore.filesystems.base import Device
from virtstore.filesystems.exttools import location
from virtstore.programs import find

MIB = 1 << 20
#: Where thousands of files cost nothing.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
Files = dict[str, bytes]
#: More of each: minutes, not seconds.
TORTURE = bool(os.environ.get("VIRTSTORE_TORTURE"))


class Tree(NamedTuple):
    """A directory, and what is in its files."""

    root: Path
    files: Files


def tool(*argv: str) -> bytes:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    said = subprocess.run([program, *argv[1:]], capture_output=True)
    assert said.returncode == 0, (argv, said.stdout[-2000:], said.stderr[-2000:])
    return said.stdout


@contextmanager
def new_tree(count: int, *, most: int = 6000) -> Iterator[Tree]:
    """`count` files of less than `most` bytes."""
    seeded = random.Random(count)
    files = {f"d{i % 17}/f{i}": seeded.randbytes(seeded.randrange(most)) for i in range(count)}
    with TemporaryDirectory(dir=MEMORY) as directory:
        root = Path(directory)
        for name, contents in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(contents)
        yield Tree(root, files)


def mke2fs(path: Path, *options: str, made: int, size: int) -> None:
    """A file system of `made` bytes at the start of an image of `size`."""
    with path.open("wb") as image:
        image.truncate(made)
    tool("mke2fs", "-q", "-F", *options, str(path))
    os.truncate(path, size)


@contextmanager
def opened(path: Path) -> Iterator[Device]:
    with path.open("r+b") as image:
        yield Device(image.fileno(), path.stat().st_size)


def place(device: Device) -> str:
    """What a tool calls the device outside of us."""
    return location(device).replace(device.path, os.readlink(device.path))


def fsck(device: Device) -> None:
    said = tool("e2fsck", "-f", "-n", place(device))
    assert b"backup" not in said  # of the superblock: then it says that all is well
    assert b"? no" not in said


def files_in(device: Device) -> Files:
    with TemporaryDirectory(dir=MEMORY) as into:
        tool("debugfs", "-R", f"rdump / {into}", place(device))
        found = (p for p in Path(into).rglob("*") if p.is_file())
        return {str(p.relative_to(into)): p.read_bytes() for p in found}


def fingerprint(device: Device) -> str:
    """Of the whole image, partition or not."""
    with Path(os.readlink(device.path)).open("rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()
