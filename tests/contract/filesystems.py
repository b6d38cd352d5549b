"""File systems to keep the contract of filesystems/base.py, made by their own tools.

Adding a file system adds a `Kind`. XFS and Btrfs are resized mounted, by this machine's kernel:
that takes root, and is skipped, and says so, without.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from virtstore.filesystems.base import Device, FileSystem
from virtstore.programs import find

MIB = 1 << 20
#: What is in the one file that each has that can have one.
DATA = random.Random(5).randbytes(MIB + 777)
#: What is written around a file system, or over what it has left.
NOISE = random.Random(6).randbytes(MIB)

Words = tuple[str, ...]


class Sizes(msgspec.Struct, frozen=True):
    """Bytes: what it is made with, what its image has room for, one in between, and one that it
    can be shrunk to."""

    made: int
    room: int
    between: int
    less: int


_SMALL = Sizes(24 * MIB, 48 * MIB, 40 * MIB, 16 * MIB)
_TINY = Sizes(4 * MIB, 9 * MIB, 6 * MIB, 2 * MIB)
#: mkfs.xfs makes none below 300 MiB, and the kernel resizes no Btrfs below 256 MiB.
_LARGE = Sizes(320 * MIB, 600 * MIB, 480 * MIB, 288 * MIB)


class Kind(msgspec.Struct, frozen=True):
    """How one is made and looked at. Of a command's words, IMAGE is the image, FILES a directory
    with a file `data`, and PROTOTYPE a description of such a directory (mkfs.xfs(8)). `wreck`
    makes it fail its check. `root`: only root can resize it; `loop`: the same in a partition."""

    type: str
    make: tuple[Words, ...]
    check: Words
    sizes: Sizes = _SMALL
    cat: Words | None = None
    wreck: Callable[[Path], object] | None = None
    root: bool = False
    loop: bool = False


def tool(*argv: str) -> bytes:
    """What it printed. An AssertionError, with all that it said, if it failed."""
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    said = subprocess.run([program, *argv[1:]], capture_output=True)
    assert said.returncode == 0, (argv, said.stdout[-2000:], said.stderr[-2000:])
    return said.stdout


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as image:
        os.pwrite(image.fileno(), data, offset)


def _mount(options: str) -> Words:
    """Mounted where nobody else sees it, and for only as long as it is read."""
    script = f'mount -o loop,ro,{options} "$0" /mnt && cat /mnt/data'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "IMAGE")


def _wreck_ntfs(path: Path) -> None:
    """The record of the file table that tells of free space."""
    boot = path.read_bytes()[:512]
    (sector,), in_cluster = struct.unpack_from("<H", boot, 0x0B), boot[0x0D]
    (table,) = struct.unpack_from("<Q", boot, 0x30)
    write(path, table * sector * in_cluster + 6 * 1024, NOISE[:1024])


def _wreck_btrfs(path: Path) -> None:
    """All copies of its root: blocks that say where they are (btrfs_tree.h, btrfs_header)."""
    with path.open("r+b") as image:
        root = os.pread(image.fileno(), 8, (64 << 10) + 0x50)
        blocks = range(0, _LARGE.made, 16 << 10)
        copies = [at for at in blocks if os.pread(image.fileno(), 8, at + 0x30) == root]
    assert copies
    for at in copies:
        write(path, at + 200, NOISE[:64])


_EXT = [
    Kind(
        kind,
        make=(("mke2fs", "-q", "-F", "-t", kind, "-d", "FILES", "IMAGE"),),
        check=("e2fsck", "-f", "-n", "IMAGE"),
        cat=("debugfs", "-R", "cat /data", "IMAGE"),
        wreck=lambda path: tool("debugfs", "-w", "-R", "clri <2>", str(path)),
    )
    for kind in ("ext2", "ext3", "ext4")
]
_XFS = Kind(
    "xfs",
    make=(("mkfs.xfs", "-q", "-p", "PROTOTYPE", "IMAGE"),),
    check=("xfs_repair", "-n", "IMAGE"),
    sizes=_LARGE,
    cat=_mount("norecovery,nouuid"),
    wreck=lambda path: write(path, 512, NOISE[:512]),  # what tells of free space
    root=True,
)
_BTRFS = Kind(
    "btrfs",
    make=(("mkfs.btrfs", "-q", "--rootdir", "FILES", "IMAGE"),),
    check=("btrfs", "check", "--readonly", "IMAGE"),
    sizes=_LARGE,
    cat=_mount("nodiscard"),
    wreck=_wreck_btrfs,
    root=True,
)
_NTFS = Kind(
    "ntfs",
    make=(
        ("mkntfs", "-F", "-f", "-q", "IMAGE"),
        ("ntfscp", "-q", "IMAGE", "FILES/data", "data"),
    ),
    check=("ntfsresize", "--check", "IMAGE"),
    cat=("ntfscat", "-f", "IMAGE", "data"),
    wreck=_wreck_ntfs,
    loop=True,
)
_VFAT = Kind("vfat", make=(("mkfs.vfat", "IMAGE"),), check=("fsck.vfat", "-n", "IMAGE"))
_SWAP = Kind(
    "swap",
    make=(("mkswap", "-q", "IMAGE"),),
    check=("swaplabel", "IMAGE"),
    sizes=_TINY,
    wreck=lambda path: write(path, 1028, b"\xff" * 4),  # where it ends
)
_SUSPENDED = Kind(
    "swsuspend",
    make=(
        ("mkswap", "-q", "IMAGE"),
        ("sh", "-c", 'printf "S1SUSPEND\\0" | dd of="$0" bs=2 seek=2043 conv=notrunc', "IMAGE"),
    ),
    check=("blkid", "-p", "IMAGE"),
    sizes=_TINY,
)
KINDS = {k.type: k for k in (*_EXT, _XFS, _BTRFS, _NTFS, _VFAT, _SWAP, _SUSPENDED)}


class Subject(msgspec.Struct, frozen=True):
    """A file system to be tested, and an image that has one of `sizes.made` bytes."""

    kind: Kind
    filesystem: FileSystem
    image: Path

    @property
    def sizes(self) -> Sizes:
        return self.kind.sizes

    @contextmanager
    def opened(self, size: int | None = None, *, flags: int = os.O_RDWR) -> Iterator[Device]:
        """The image's first `size` bytes; as many as there is room for."""
        fd = os.open(self.image, flags)
        try:
            yield Device(fd, self.sizes.room if size is None else size)
        finally:
            os.close(fd)

    @contextmanager
    def in_a_partition(self) -> Iterator[Device]:
        """The same image with noise before and behind it, where both have to stay."""
        whole = self.image.with_name("whole")
        self._copy(whole, 0, self.sizes.room, at=MIB)
        write(whole, 0, NOISE)
        write(whole, MIB + self.sizes.room, NOISE)
        with whole.open("r+b") as image:
            fd = image.fileno()
            yield Device(fd, self.sizes.room + 2 * MIB).part(MIB, self.sizes.room)
            assert os.pread(fd, MIB, 0) == NOISE
            assert os.pread(fd, 2 * MIB, MIB + self.sizes.room) == NOISE

    def require_whole(self, device: Device, size: int) -> None:
        """In what are a device's first `size` bytes, and nothing else, there is all of it."""
        assert size <= device.size
        with TemporaryDirectory(dir=self.image.parent) as directory:
            alone = Path(directory) / "alone"
            copy_data(device.fd, alone, device.start, size)
            tool(*_said(self.kind.check, alone))
            if self.kind.cat:
                assert tool(*_said(self.kind.cat, alone)) == DATA

    def _copy(self, target: Path, start: int, size: int, *, at: int) -> None:
        with self.image.open("rb") as image:
            copy_data(image.fileno(), target, start, size, at=at)


def made(kind: Kind, directory: Path) -> Path:
    """An image with one in it."""
    files, image = directory / "files", directory / "image"
    files.mkdir()
    (files / "data").write_bytes(DATA)
    with image.open("wb") as file:
        file.truncate(kind.sizes.made)
    image.chmod(0o600)
    for command in kind.make:
        tool(*_said(command, image, files))
    os.truncate(image, kind.sizes.room)
    return image


def _said(command: Words, image: Path, files: Path = Path("/nowhere")) -> list[str]:
    prototype = files.with_name("prototype")
    if "PROTOTYPE" in command:
        prototype.write_text(f"/none 0 0\nd--755 0 0\ndata ---644 0 0 {files}/data\n$\n")
    words = {"IMAGE": str(image), "FILES": str(files), "PROTOTYPE": str(prototype)}
    return [words.get(word, word.replace("FILES/", f"{files}/")) for word in command]


def copy_data(fd: int, target: Path, start: int, size: int, *, at: int = 0) -> None:
    """A new file of the bytes from `start` on, with its holes; they begin at byte `at` of it."""
    with target.open("wb") as file:
        file.truncate(at + size)
        for offset, data in _data(fd, start, start + size):
            os.pwrite(file.fileno(), data, at + offset - start)


def fingerprint(device: Device) -> str:
    """Of all its bytes; holes are zeros."""
    digest = hashlib.sha256()
    for offset, data in _data(device.fd, device.start, device.start + device.size):
        digest.update(b"%d " % offset + data)
    return digest.hexdigest()


def _data(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Each block that is not zero, with its offset."""
    block = 64 << 10
    offset = start
    while offset < end:
        try:
            offset = max(offset, os.lseek(fd, offset, os.SEEK_DATA) // block * block)
        except OSError:  # ENXIO: no more data
            return
        data = os.pread(fd, max(min(block, end - offset), 0), offset)
        if data.strip(b"\0"):
            yield offset, data
        offset += block
