"""Damaged XFS and Btrfs: resized whole, or refused; and the kernel that mounts them survives."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Final

import pytest

from virtstore.errors import Corrupt, Error
from virtstore.filesystems.base import Device, Resized

from ...waiting import until
from ..conftest import TORTURE
from ..replay import IN_THE_LAB
from .mounts import (
    FILESYSTEMS,
    MADE,
    SIZE,
    check_clean,
    crc32c,
    fingerprint,
    image,
    make,
    nothing_is_left,
)
from .shell import MIB, sh

VARIANTS = 500 if IN_THE_LAB or TORTURE in os.environ else 2
#: Checksums catch most damage: without them, or with right ones, it gets further.
OPTIONS: Final = {"xfs": ("-m crc=0", "-m crc=1"), "btrfs": ("-m dup", "-m single")}

_SUPERBLOCK: Final = {"xfs": 0, "btrfs": 64 << 10}
#: Of Btrfs's metadata, and a convenient piece of XFS's.
_NODE: Final = 16 << 10

Nodes = dict[int, bytes]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Nodes]]:
    """By kind, two file systems of empty files: all that is not zero is metadata."""
    top = tmp_path_factory.mktemp("pristine")
    sh(f"mkdir -p {top}/tree/a {top}/tree/b && cd {top}/tree && touch a/$(seq -s ' b/x' 300)")
    made: dict[str, list[Nodes]] = {}
    for kind, variants in OPTIONS.items():
        for options in variants:
            with image(top / "image") as device:
                make(device, kind, top / "tree", options)
                made.setdefault(kind, []).append(_nodes(device))
    return made


def _nodes(device: Device) -> Nodes:
    every = ((offset, device.read(offset, _NODE)) for offset in range(0, MADE, _NODE))
    return {offset: node for offset, node in every if any(node)}


@pytest.mark.parametrize("seed", range(VARIANTS))
@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_a_damaged_file_system_is_resized_whole_or_refused(
    tmp_path: Path, pristine: dict[str, list[Nodes]], kind: str, seed: int
) -> None:
    with image(tmp_path / "image") as device:
        nodes = pristine[kind][seed % 2]
        for offset, node in nodes.items():
            os.pwrite(device.fd, node, offset)
        _damage(device, kind, sorted(nodes), random.Random(seed))
        before = fingerprint(device)
        try:
            _resize(device, kind, seed)
            check_clean(device, kind)
        except Corrupt as error:
            if "fails its check and was not" in error.message:
                assert fingerprint(device) == before
        except Error:
            pass
        assert os.fstat(device.fd).st_size == SIZE
    until(nothing_is_left, "all mounts and loop devices are gone")


def _resize(device: Device, kind: str, seed: int) -> Resized:
    if kind == "btrfs" and seed // 2 % 2:
        return FILESYSTEMS[kind].shrink(device, 260 * MIB)
    return FILESYSTEMS[kind].grow(device)


def _damage(device: Device, kind: str, offsets: list[int], seeded: random.Random) -> None:
    """Some bytes of a few nodes; half of the variants get their checksums made good."""
    sealed = kind == "btrfs" and seeded.random() < 0.5
    for _ in range(seeded.choice((1, 1, 2, 8))):
        at = _SUPERBLOCK[kind] if seeded.random() < 0.3 else seeded.choice(offsets)
        length = 4096 if at == _SUPERBLOCK[kind] else _NODE
        node = bytearray(device.read(at, length))
        for _ in range(seeded.choice((1, 2, 8))):
            # Beginnings matter most.
            node[seeded.randrange(32, seeded.choice((256, length)))] = seeded.randrange(256)
        if sealed:
            node[:4] = struct.pack("<I", crc32c(bytes(node[32:])))
        os.pwrite(device.fd, node, at)


def test_the_variants_are_neither_all_refused_nor_all_resized(
    tmp_path: Path, pristine: dict[str, list[Nodes]]
) -> None:
    outcomes = set()
    for seed in range(8):
        with image(tmp_path / "image") as device:
            nodes = pristine["xfs"][seed % 2]
            for offset, node in nodes.items():
                os.pwrite(device.fd, node, offset)
            _damage(device, "xfs", sorted(nodes), random.Random(seed))
            try:
                outcomes.add(_resize(device, "xfs", seed).changed)
            except Error:
                outcomes.add(False)
    assert outcomes == {True, False}
