"""Images with flipped bytes: each is answered for, and grown whole or refused."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from virtstore.errors import Error
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.detect import detect, end_of_contents
from virtstore.filesystems.ext import Ext
from virtstore.programs import find

MIB = 1 << 20
VARIANTS = 60


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """With checksums, which catch most damage, and without, where it gets further."""
    mke2fs = find("mke2fs")
    assert mke2fs
    made = []
    for option in ("metadata_csum", "^metadata_csum"):
        path = tmp_path_factory.mktemp("pristine") / "image"
        with path.open("wb") as image:
            image.truncate(8 * MIB)
        subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-O", option, str(path)], check=True)
        made.append(path.read_bytes())
    return made


def _damage(pristine: list[bytes], seed: int) -> bytes:
    """Half of the variants are hit in the superblock, where every byte matters."""
    seeded = random.Random(seed)
    image = bytearray(pristine[seed // 2 % 2])
    first, last = (1024, 2048) if seed % 2 else (0, 64 << 10)
    for _ in range(seeded.choice((1, 2, 8, 64))):
        image[seeded.randrange(first, last)] = seeded.randrange(256)
    return bytes(image)


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_a_damaged_image_is_answered_for_and_grown_whole_or_refused(
    tmp_path: Path, pristine: list[bytes], seed: int
) -> None:
    path = tmp_path / "image"
    path.write_bytes(_damage(pristine, seed))
    with path.open("r+b") as image:
        image.truncate(16 * MIB)
        device = Device(image.fileno(), 16 * MIB)
        end = end_of_contents(detect(device))
        assert end is None or end >= 0
        minimum = Ext().minimum(device)
        assert minimum is None or minimum > 0
        grown = _grow(device)
        if grown:
            assert grown.size <= 16 * MIB
            assert _is_clean(path)
        assert path.stat().st_size == 16 * MIB


def _grow(device: Device) -> Resized | None:
    """None where it is refused, with an error of ours."""
    try:
        return Ext().grow(device)
    except Error:
        return None


def _is_clean(path: Path) -> bool:
    e2fsck = find("e2fsck")
    assert e2fsck
    return subprocess.run([e2fsck, "-fn", path], capture_output=True).returncode == 0


def test_the_variants_are_neither_all_refused_nor_all_grown(
    pristine: list[bytes], tmp_path: Path
) -> None:
    outcomes = set()
    for seed in range(12):
        path = tmp_path / "image"
        path.write_bytes(_damage(pristine, seed))
        with path.open("r+b") as image:
            image.truncate(16 * MIB)
            outcomes.add(_grow(Device(image.fileno(), 16 * MIB)) is None)
    assert outcomes == {True, False}
