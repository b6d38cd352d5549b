"""A tree of files as guests have them, and file systems that the real tools made of it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from copy import copy
from pathlib import Path

from tests.tools.ext_images import tool

from virtstore.filesystems.reading.base import Node, Reader, Window, soundness
from virtstore.filesystems.reading.registry import open_reader
from virtstore.filesystems.reading.tree import below, look_up

MIB = 1 << 20
#: Each kind: the bytes of its image, and the program that fills it from the directory TREE, or by
#: the description PROTOTYPE (mkfs.xfs(8)).
MAKE: dict[str, tuple[int, str]] = {
    "ext2": (48 * MIB, "mke2fs -q -t ext2 -d TREE IMAGE"),
    "ext3": (48 * MIB, "mke2fs -q -t ext3 -b 4096 -d TREE IMAGE"),
    "ext4": (48 * MIB, "mke2fs -q -t ext4 -d TREE IMAGE"),
    "ext4-inline": (48 * MIB, "mke2fs -q -t ext4 -O inline_data -d TREE IMAGE"),
    "ext4-meta_bg": (
        300 * MIB,
        "mke2fs -q -t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode -d TREE IMAGE",
    ),
    "xfs": (300 * MIB, "mkfs.xfs -q -p PROTOTYPE IMAGE"),
    "xfs-4": (300 * MIB, "mkfs.xfs -q -m crc=0 -p PROTOTYPE IMAGE"),
    "xfs-big": (300 * MIB, "mkfs.xfs -q -n size=16384 -p PROTOTYPE IMAGE"),
    "btrfs": (160 * MIB, "mkfs.btrfs -q --rootdir TREE IMAGE"),
    "vfat-12": (15 * MIB, "mkfs.vfat -F 12 -s 8 IMAGE"),
    "vfat-16": (48 * MIB, "mkfs.vfat -F 16 IMAGE"),
    "vfat-32": (64 * MIB, "mkfs.vfat -F 32 IMAGE"),
}

_RANDOM = random.Random(16)
#: What is in each; none of these names is too much for FAT, or for mkfs.xfs.
PLAIN: dict[str, bytes] = {
    "hello.txt": b"hello\n",
    "empty": b"",
    "etc/fstab": b"/dev/vda1 / ext4 defaults 0 1\n",
    "etc/a rather long name which no DOS had.conf": b"x" * 5000,
    "big/random": _RANDOM.randbytes(3 * MIB + 17),
    **{f"many/file {number}.txt": b"%d" % number for number in range(700)},
}
#: And what only Unix has.
ODD: dict[bytes, bytes] = {
    b"new\nline": b"1",
    b"es\x1b[31mc": b"2",
    b"bad\xff\xfe": b"3",
    b"back\\slash": b"4",
    b"*": b"5",
}
LINKS = {"link": "hello.txt", "through": "/etc", "long": "/" + "d/" * 60 + "x", "gone": "nowhere"}


class File:
    """An image file, to be read at any offset."""

    def __init__(self, path: Path) -> None:
        self._path, self.size = path, path.stat().st_size

    def read_at(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), length, offset)


class Held:
    """An image in memory, of which what is zeros takes no room."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self._sectors: dict[int, bytes] = {}
        with path.open("rb") as file:
            for at in range(0, self.size, MIB):
                piece = file.read(MIB)
                for sector in range(0, len(piece) if any(piece) else 0, 512):
                    if any(data := piece[sector : sector + 512]):
                        self._sectors[(at + sector) // 512] = data

    def damaged(self, seeded: random.Random) -> Held:
        """The same with some bytes that are others."""
        found = copy(self)
        found._sectors = dict(self._sectors)
        for number in seeded.choices(list(self._sectors), k=40):
            data = bytearray(found._sectors[number])
            data[seeded.randrange(512)] = seeded.randrange(256)
            found._sectors[number] = bytes(data)
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        first, last = offset // 512, (offset + length - 1) // 512
        none = bytes(512)
        whole = b"".join(self._sectors.get(n, none) for n in range(first, last + 1))
        return whole[offset - first * 512 :][:length]


def tree(top: Path, *, odd: bool = True) -> Path:
    """The files, below a directory that is made."""
    for name, contents in PLAIN.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(contents)
    with (top / "hole").open("wb") as file:
        for at in (2 * MIB, 5 * MIB):
            file.seek(at)
            file.write(b"behind a hole")
    if odd:
        for odd_name, contents in ODD.items():
            (top / os.fsdecode(odd_name)).write_bytes(contents)
        for name, target in LINKS.items():
            (top / name).symlink_to(target)
        os.mkfifo(top / "pipe")
    for each in sorted(top.rglob("*")):
        if not each.is_symlink():
            os.utime(each, (1_000_000_000, 1_000_000_000))
    return top


def is_plain(kind: str) -> bool:
    return kind.startswith(("vfat", "xfs"))


def image(path: Path, kind: str, top: Path) -> Path:
    """An image with a file system of this kind with what is below `top` in it."""
    size, command = MAKE[kind]
    argv = command.split()
    path.touch()
    os.truncate(path, size)
    prototype = path.with_name("prototype")
    if "PROTOTYPE" in argv:
        prototype.write_text("boot\n0 0\n" + "".join(_prototype(top)))
    words = {"TREE": str(top), "IMAGE": str(path), "PROTOTYPE": str(prototype)}
    tool(*(words.get(word, word) for word in argv))
    if kind.startswith("vfat"):
        tool("mcopy", "-m", "-s", "-i", str(path), *map(str, sorted(top.iterdir())), "::/")
    return path


def _prototype(top: Path, depth: int = 0) -> Iterator[str]:
    """The description of a directory, but for names with a space in them."""
    yield "d--755 0 0\n"
    for each in sorted(top.iterdir()):
        name = each.name.replace(" ", "_")
        if each.is_symlink():
            yield f"{name} l--777 0 0 {os.readlink(each)}\n"
        elif each.is_dir():
            yield f"{name} "
            yield from _prototype(each, depth + 1)
        elif " " not in str(each):
            yield f"{name} ---644 0 0 {each}\n"
    yield "$\n"


def reader(path: Path, kind: str) -> Reader:
    file = File(path)
    return open_reader(kind.partition("-")[0], Window(file, 0, file.size))


def contents(found: Reader, node: Node) -> bytes:
    held = bytearray(node.size)
    with soundness():
        for offset, data in found.pieces(node):
            held[offset : offset + len(data)] = data
    assert len(held) == node.size
    return bytes(held)


def everything(found: Reader) -> dict[bytes, bytes | None]:
    """What is in each file of a file system, and where each link leads; None of what is neither."""
    held: dict[bytes, bytes | None] = {}
    for each in below(found, b"/", look_up(found, b"/"), lambda: None):
        assert each.node, each
        name = each.path[1:]
        if each.node.kind == "file":
            held[name] = contents(found, each.node)
        elif each.node.kind == "symlink":
            held[name] = b"-> " + found.target(each.node)
        elif each.node.kind == "other":
            held[name] = None
    return held


def told(top: Path) -> dict[bytes, bytes | None]:
    """The same of a directory, as the kernel tells it."""
    held: dict[bytes, bytes | None] = {}
    for each in top.rglob("*"):
        name = os.fsencode(each.relative_to(top))
        if each.is_symlink():
            held[name] = b"-> " + os.fsencode(os.readlink(each))
        elif each.is_file():
            held[name] = each.read_bytes()
        elif not each.is_dir():
            held[name] = None
    return held


def differing(one: dict[bytes, bytes | None], other: dict[bytes, bytes | None]) -> list[bytes]:
    """The names of what is in one only, or differs."""
    return [name for name in {**one, **other} if one.get(name, 0) != other.get(name, 0)]
