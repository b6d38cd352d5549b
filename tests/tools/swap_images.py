"""Disks that end with a swap partition, in each kind of table and place, with files before it and
something swapped out to it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest
from tests.tools.ext_images import MIB, Tree, files_in, fsck, opened, tool
from tests.tools.partitioned import SWAP_UUID, seen, sfdisk, swap_is_whole
from tests.tools.resize_images import configuration
from tests.unit.test_filesystems_gpt import gpt_image

from virtstore import linux
from virtstore.agent import config
from virtstore.agent.context import Agent
from virtstore.agent.operations import moving_swap
from virtstore.agent.policy import Policy
from virtstore.agent.session import Session
from virtstore.backends.base import Image
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.gpt import Gpt, read_gpt
from virtstore.filesystems.partitions.gpt_copies import SWAP, read_copies
from virtstore.filesystems.partitions.table import end_of, is_container
from virtstore.model import Changed, Partition
from virtstore.protocol import ResizeImage

FRONT: Final = 12 * MIB
SWAPPED: Final = 4 * MIB
PAGE: Final = 4096
#: What a guest had swapped out: nobody is to find it outside of the swap partition.
SECRET: Final = b"somebody's password "
UUID: Final = "11111111-2222-3333-4444-555555555555"


class Disk(NamedTuple):
    """`script` for sfdisk (none: a GPT for sectors of 4096 bytes); where the root file system and
    the swap partition begin, and their numbers."""

    script: str
    front: tuple[int, int]
    swap: tuple[int, int]
    size: int = 18 * MIB
    #: Of the root file system, and its partition.
    front_size: int = FRONT


DISKS: Final = {
    "gpt": Disk(
        "label: gpt\nstart=1MiB,size=12MiB,type=L\n"
        f'start=13MiB,size=4MiB,type=S,name="swap area",uuid={UUID},attrs="GUID:59"\n',
        (1, MIB),
        (2, 13 * MIB),
    ),
    "gpt4k": Disk("", (1, MIB), (2, 13 * MIB)),
    # Where the root file system ends, the swap partition's first page may come to lie.
    "odd": Disk(
        "label: gpt\nstart=1MiB,size=24580,type=L\n"
        f'start=14MiB,size=4MiB,type=S,name="swap area",uuid={UUID},attrs="GUID:59"\n',
        (1, MIB),
        (2, 14 * MIB),
        size=19 * MIB,
        front_size=FRONT + 2048,
    ),
    "dos": Disk(
        "label: dos\nstart=1MiB,size=12MiB,type=83,bootable\nstart=13MiB,size=4MiB,type=82\n",
        (1, MIB),
        (2, 13 * MIB),
    ),
    # As the Debian installer has it: two sectors before the logical one.
    "debian": Disk(
        "label: dos\nstart=1MiB,size=12MiB,type=83,bootable\n"
        "start=28670,size=8194,type=5\nstart=28672,size=8192,type=82\n",
        (1, MIB),
        (5, 14 * MIB),
        size=19 * MIB,
    ),
    "extended": Disk(
        "label: dos\nstart=1MiB,size=12MiB,type=83,bootable\n"
        "start=13MiB,size=5MiB,type=f\nstart=14MiB,size=4MiB,type=82\n",
        (1, MIB),
        (5, 14 * MIB),
        size=19 * MIB,
    ),
    "logical": Disk(
        "label: dos\nstart=1MiB,size=1MiB,type=83\nstart=2MiB,size=18MiB,type=5\n"
        "start=3MiB,size=12MiB,type=83\nstart=16MiB,size=4MiB,type=82\n",
        (5, 3 * MIB),
        (6, 16 * MIB),
        size=21 * MIB,
    ),
}


def make(path: Path, kind: str, tree: Tree) -> Disk:
    """A disk of that kind, with the tree in its root file system."""
    disk = DISKS[kind]
    made = path.with_name("made")
    if disk.script:
        with path.open("wb") as image:
            image.truncate(disk.size)
        sfdisk(path, disk.script)
    else:
        path.write_bytes(_gpt_4096(disk.size))
    made.unlink(missing_ok=True)
    blocks = f"{disk.front_size // 1024}k"
    tool("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-d", str(tree.root), str(made), blocks)
    put(path, disk.front[1], made.read_bytes())
    put(path, disk.swap[1], swap_area(made))
    made.unlink()
    return disk


def swap_area(path: Path, *options: str) -> bytes:
    """What mkswap makes, with something swapped out to it."""
    path.write_bytes((SECRET * (SWAPPED // len(SECRET) + 1))[:SWAPPED])
    tool("mkswap", "-q", "-U", SWAP_UUID, "-L", "swap é", *options, str(path))
    return path.read_bytes()


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(data)


def _gpt_4096(size: int) -> bytes:
    """Root and swap, in a GPT for sectors of 4096 bytes, which no tool makes in a file."""
    image = gpt_image(((2048, 26623), (26624, 34815)), sector=4096, size=size)
    for lba, entries in ((1, 2), (size // 4096 - 1, size // 4096 - 5)):
        image[entries * 4096 + 128 : entries * 4096 + 144] = SWAP
        array = image[entries * 4096 : entries * 4096 + 128 * 128]
        head = lba * 4096
        struct.pack_into("<I", image, head + 88, zlib.crc32(array))
        struct.pack_into("<I", image, head + 16, 0)
        struct.pack_into("<I", image, head + 16, zlib.crc32(image[head : head + 92]))
    return bytes(image)


def bootable(path: Path, kind: str, tree: Tree) -> Contents:
    """What is on a disk, in whatever state: its table is read, every file is in the root file
    system, which is whole within its partition, and there is the one swap partition."""
    disk, found = DISKS[kind], seen(path)
    assert found.table
    assert found.table.damage is None
    front, swap = (_numbered(found, n) for n in (disk.front[0], disk.swap[0]))
    assert front.start == disk.front[1]
    assert front.filesystem
    assert (front.filesystem.size or 0) <= front.size
    with opened(path) as device:
        part = device.part(front.start, front.size)
        fsck(part)
        assert files_in(part) == tree.files
    assert end_of(front) <= swap.start
    swap_is_whole(path, disk.swap[0])
    return found


def finished(path: Path, kind: str, tree: Tree) -> tuple[tuple[int, int, int], ...]:
    """`bootable`, and what the tools have to say of it; nothing that was swapped out is outside
    of the swap partition, nor anything else that is in no partition. Returns the partitions."""
    found = bootable(path, kind, tree)
    if kind != "gpt4k":
        assert b"No errors detected" in tool("sfdisk", "--verify", str(path))
    if kind in ("gpt", "odd"):
        assert b"No problems found" in tool("sgdisk", "-v", str(path))
        told = tool("sfdisk", "-d", str(path)).decode()
        assert f'uuid={UUID}, name="swap area", attrs="GUID:59"' in told
    swap = _numbered(found, DISKS[kind].swap[0])
    data = path.read_bytes()
    outside = data[: swap.start] + data[end_of(swap) :]
    assert SECRET not in outside
    assert found.table
    inside = [p for p in found.partitions if not is_container(p)]
    free = [end_of(p) for p in inside]
    for start in free:
        end = min([p.start for p in inside if p.start >= start], default=len(data))
        for each in (e for e in found.table.among if start <= e[0] < end):
            assert not any(data[start : each[0]])
            start = each[1]
        assert not any(data[start : min(end, found.table.backup(len(data)))])
    if isinstance(found.table, Gpt):
        _copies_agree(path, found.table)
    return tuple((p.number, p.start, p.size) for p in found.partitions)


def _copies_agree(path: Path, table: Gpt) -> None:
    with opened(path) as device:
        copies = read_copies(device, table.sector)
        assert read_gpt(device, table.sector)
    assert copies.primary
    assert copies.backup
    assert copies.primary.array == copies.backup.array
    assert copies.primary.header.alternate == copies.last


def _numbered(found: Contents, number: int) -> Partition:
    return next(p for p in found.partitions if p.number == number)


class Quiet:
    """A session that nobody listens to."""

    def stage(self, *_: object) -> None: ...
    def progress(self, *_: object) -> None: ...
    def check(self) -> None: ...


class Alone(Agent):
    """An agent on a host where nobody else is: we have the image open ourselves."""

    def refuse_use(self, image: Image, *, writers_only: bool = False) -> None: ...


def resized(
    path: Path, size: str | int, *, dry_run: bool = False, partition: int | None = None
) -> Changed:
    """What the agent's operation answers, in this process."""
    agent = Alone(
        lambda: Policy(config.load(str(configuration(path.parent))), (), "write"),
        cast(Session, Quiet()),
    )
    request = ResizeImage(str(path), str(size), partition, move_swap=True, dry_run=dry_run)
    return moving_swap.resize(agent, request).result


@contextmanager
def watched(path: Path, between: Callable[[int, bytes], None]) -> Iterator[None]:
    """`between` is called before each write to the file, with what that is to be."""
    inode = path.stat().st_ino
    pwrite, zero_range, ftruncate = os.pwrite, linux.zero_range, os.ftruncate

    def is_it(fd: int) -> bool:
        return os.fstat(fd).st_ino == inode

    def writing(fd: int, data: Any, offset: int) -> int:
        if is_it(fd):
            between(offset, bytes(data))
        return pwrite(fd, data, offset)

    def zeroing(fd: int, offset: int, length: int) -> None:
        if is_it(fd):
            between(offset, bytes(length))
        zero_range(fd, offset, length)

    def cutting(fd: int, length: int) -> None:
        if is_it(fd):
            between(0, b"")
        ftruncate(fd, length)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", writing)
        patched.setattr(linux, "zero_range", zeroing)
        patched.setattr(os, "ftruncate", cutting)
        yield
