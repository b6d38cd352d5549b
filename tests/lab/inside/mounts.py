"""XFS and Btrfs for tests in the lab: made with files in them, looked at, checked."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from virtstore.filesystems import loop
from virtstore.filesystems.base import Device, FileSystem
from virtstore.filesystems.btrfs import Btrfs
from virtstore.filesystems.superblock import filesystem_size
from virtstore.filesystems.xfs import Xfs

from .shell import MIB, sh

FILESYSTEMS: Final[dict[str, FileSystem]] = {"xfs": Xfs(), "btrfs": Btrfs()}

#: What the file systems are made with, and the images that they are to grow in. mkfs.xfs makes
#: none below 300 MiB, and the kernel resizes no Btrfs below 256 MiB.
MADE: Final = 320 * MIB
SIZE: Final = 600 * MIB

_READ_ONLY: Final = {"xfs": "ro,norecovery,nouuid", "btrfs": "ro"}
_CHECK: Final = {"xfs": "xfs_repair -n", "btrfs": "btrfs check --readonly"}


def make_tree(root: Path, count: int) -> Path:
    """Directories of small files, some empty; and links."""
    seeded = random.Random(1)
    for i in range(count):
        path = root / f"d{i % 37}" / f"f{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seeded.randbytes(seeded.randrange(25_000) if i % 9 else 0))
    (root / "link").symlink_to("d1/f1")
    return root


@contextmanager
def image(path: Path, size: int = SIZE) -> Iterator[Device]:
    """A new plain file; it is removed in the end, for it takes memory."""
    with path.open("x+b") as file:
        os.ftruncate(file.fileno(), size)
        try:
            yield Device(file.fileno(), size)
        finally:
            path.unlink()


@contextmanager
def block_device(device: Device) -> Iterator[str]:
    with loop.attached(device) as whole:
        yield os.readlink(whole.path)


def make(device: Device, kind: str, tree: Path | None, *options: str, made: int = MADE) -> None:
    """Make a file system of `made` bytes, with the files of `tree`, at the device's start."""
    with block_device(device.part(0, made)) as node:
        sh(f"mkfs.{kind} -q -f {' '.join(options)} {node} 2>&1")
        if tree:
            with mounted(node, ""):
                sh(f"cp -a {tree}/. /mnt/fs")


@contextmanager
def mounted(node: str, options: str) -> Iterator[None]:
    """Mounted on /mnt/fs, for everybody to see."""
    sh(f"mkdir -p /mnt/fs && mount {f'-o {options}' if options else ''} {node} /mnt/fs")
    try:
        yield
    finally:
        sh("umount /mnt/fs")


def check_whole(device: Device, kind: str, tree: Path) -> None:
    """It passes its own check, lies within its device, and has the files of `tree`."""
    check_clean(device, kind)
    with block_device(device) as node, mounted(node, _READ_ONLY[kind]):
        sh(f"diff -r --no-dereference {tree} /mnt/fs")


def check_clean(device: Device, kind: str) -> None:
    size = filesystem_size(kind, device)
    assert size
    assert size <= device.size
    with block_device(device) as node:
        sh(f"{_CHECK[kind]} {node} 2>&1")


def spoil_root(device: Device) -> None:
    """Damage every copy of the root of a Btrfs."""
    block = 16 << 10
    root = device.read((64 << 10) + 0x50, 8)
    copies = [at for at in range(0, 128 * MIB, block) if device.read(at + 0x30, 8) == root]
    assert copies
    for at in copies:
        os.pwrite(device.fd, b"\xff" * 64, device.start + at + 200)


def add_unknown_feature(device: Device) -> None:
    """Give an XFS a feature that no kernel knows yet, with a good checksum."""
    sector = bytearray(device.read(0, 512))
    sector[216] |= 0x80  # sb_features_incompat
    sector[224:228] = bytes(4)
    sector[224:228] = struct.pack("<I", crc32c(bytes(sector)))
    os.pwrite(device.fd, sector, device.start)


def crc32c(data: bytes) -> int:
    """The checksum of XFS and Btrfs (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def fingerprint(device: Device) -> str:
    """Of a sparse file's data, and where that is."""
    digest = hashlib.sha256()
    offset = 0
    with suppress(OSError):  # ENXIO: no more data
        while True:
            offset = os.lseek(device.fd, offset, os.SEEK_DATA)
            end = os.lseek(device.fd, offset, os.SEEK_HOLE)
            digest.update(b"%d " % offset + os.pread(device.fd, end - offset, offset))
            offset = end
    assert offset
    return digest.hexdigest()


def nothing_is_left() -> bool:
    """No loop device, and neither kind mounted in any process's namespace."""
    return not sh("losetup -a") and not mounts()


def mounts() -> dict[int, str]:
    """By process: where XFS or Btrfs is mounted, as mountinfo says it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            lines = path.read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        mine = [line for line in lines if line.split(" - ")[1].split()[0] in FILESYSTEMS]
        if mine:
            found[int(path.parent.name)] = "\n".join(mine)
    return found
