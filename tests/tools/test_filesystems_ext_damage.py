"""ext file systems with flipped bytes in their metadata are resized whole, or refused; one that
claims to be clean and is not is refused untouched. `VIRTSTORE_TORTURE=1` for 500 variants."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pytest
from msgspec import structs
from tests.tools.ext_images import (
    MEMORY,
    MIB,
    TORTURE,
    Files,
    files_in,
    fingerprint,
    fsck,
    mke2fs,
    new_tree,
    opened,
    tool,
)

from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.ext import Ext
from virtstore.filesystems.extsuper import read_superblock

VARIANTS: Final = 500 if TORTURE else 20
MADE: Final = 24 * MIB
IMAGE: Final = 32 * MIB
TARGET: Final = 12 * MIB
BLOCK: Final = 1024
#: With checksums, which catch most damage, and without, where it gets further.
KINDS: Final = (
    ("-t", "ext4"),
    ("-t", "ext4", "-O", "^metadata_csum"),
    ("-t", "ext3"),
    ("-t", "ext2"),
)


class Pristine(NamedTuple):
    path: Path
    targets: tuple[range, ...]
    """Of bytes: superblock, descriptors, bitmaps, inode tables, journal."""


@pytest.fixture(scope="module")
def pristine() -> Iterator[tuple[Pristine, ...]]:
    with new_tree(400) as tree, TemporaryDirectory(dir=MEMORY) as directory:
        made = []
        for number, options in enumerate(KINDS):
            path = Path(directory) / f"pristine-{number}"
            options = (*options, "-b", str(BLOCK), "-d", str(tree.root))
            mke2fs(path, *options, made=MADE, size=IMAGE)
            made.append(Pristine(path, _metadata(path)))
        yield tuple(made)


def _metadata(path: Path) -> tuple[range, ...]:
    """Where the metadata lies, by dumpe2fs and debugfs; inode tables only as far as used."""
    told = tool("dumpe2fs", str(path)).decode()
    descriptors = re.findall(r"Group descriptors at (\d+)-(\d+)", told)
    bitmaps = re.findall(r"bitmap at (\d+)", told)
    tables = re.findall(r"Inode table at (\d+)", told)[:1]
    journal = tool("debugfs", "-R", "blocks <8>", str(path)).split()[:8]
    return (
        range(BLOCK, 2 * BLOCK),
        *(range(int(first) * BLOCK, (int(last) + 1) * BLOCK) for first, last in descriptors[:1]),
        *(_block(bitmap) for bitmap in bitmaps),
        *(range(int(table) * BLOCK, (int(table) + 100) * BLOCK) for table in tables),
        *(_block(block) for block in journal),
    )


def _block(number: str | bytes) -> range:
    return range(int(number) * BLOCK, (int(number) + 1) * BLOCK)


def _damage(device: Device, targets: tuple[range, ...], seeded: random.Random) -> None:
    place = seeded.choice((*targets[:2] * 5, *targets[2:]))
    for _ in range(seeded.choice((1, 1, 2, 8, 64))):
        os.pwrite(device.fd, bytes([seeded.randrange(256)]), seeded.choice(place))
    if seeded.random() < 0.3:  # not unmounted in order, so that it is mended first
        os.pwrite(device.fd, b"\0\0", 1024 + 0x3A)


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_damage_is_resized_whole_or_refused(pristine: tuple[Pristine, ...], seed: int) -> None:
    seeded = random.Random(seed)
    chosen = seeded.choice(pristine)
    path = chosen.path.with_name(f"image-{seed}")
    shutil.copyfile(chosen.path, path)
    with opened(path) as device:
        _damage(device, chosen.targets, seeded)
        whole = _files_if_whole(device)
        superblock = read_superblock(device)
        before = fingerprint(device)
        try:
            now = _resize(device, seeded)
        except (Corrupt, Unsafe, Unsupported):
            if superblock and superblock.clean:
                assert fingerprint(device) == before
        except Error:
            assert superblock
            assert read_superblock(device) in (superblock, structs.replace(superblock, clean=True))
            fsck(device)
        else:
            assert now.size <= IMAGE
            fsck(device)
        if whole is not None:
            assert files_in(device) == whole
        assert os.fstat(device.fd).st_size == IMAGE
    path.unlink()


def _files_if_whole(device: Device) -> Files | None:
    """What is in it, where the damage hit nothing that matters."""
    try:
        fsck(device)
    except AssertionError:
        return None
    return files_in(device)


def _resize(device: Device, seeded: random.Random) -> Resized:
    if seeded.random() < 0.4:
        return Ext().grow(device)
    size = seeded.choice((None, TARGET))
    now = Ext().shrink(device, size)
    assert size is None or now.size <= size
    os.ftruncate(device.fd, now.size)
    os.ftruncate(device.fd, IMAGE)
    return now
