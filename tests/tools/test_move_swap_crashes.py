"""resize --move-swap, cut short before, within and after each of its writes: a disk to boot from,
and the same command finishes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.tools.ext_images import MIB, TORTURE, Tree, new_tree
from tests.tools.resize_images import new_root
from tests.tools.swap_images import (
    DISKS,
    SWAPPED,
    bootable,
    finished,
    make,
    put,
    resized,
    watched,
)

#: By more than the swap partition's size and by less, in MiB, growing and shrinking.
SIZES: Final = (12, 3, -2, -6, None)
#: Each of these once.
_SOME: Final = (
    *((kind, SIZES[at % len(SIZES)]) for at, kind in enumerate(DISKS) if kind != "odd"),
    ("odd", -1),
)
_ALL: Final = (*((kind, size) for kind in DISKS for size in SIZES), ("odd", -1))
_SECTOR: Final = 512


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(60) as tree:
        yield tree


@pytest.fixture
def image() -> Iterator[Path]:
    with new_root() as root:
        yield root / "x.img"


def torn(data: bytes) -> tuple[bytes, ...]:
    """What is written of a piece that is cut short, from its beginning."""
    sectors = -(-len(data) // _SECTOR)
    if not 1 < sectors <= 33:
        return (b"",)
    return b"", data[:_SECTOR], data[: sectors // 2 * _SECTOR], data[: (sectors - 1) * _SECTOR]


@pytest.mark.parametrize(("kind", "more"), _ALL if TORTURE else _SOME)
def test_a_move_that_is_cut_short_leaves_a_disk_to_boot_from_and_is_finished_by_the_same_command(
    image: Path, tree: Tree, kind: str, more: int | None
) -> None:
    size = "minimum" if more is None else str(make(image, kind, tree).size + more * MIB)
    make(image, kind, tree)
    kept, cut = image.with_name("kept.img"), image.with_name("cut.img")
    shutil.copy2(image, kept)
    expected = resized(kept, size)
    places = finished(kept, kind, tree)
    assert expected.moved
    assert (expected.moved.number, expected.moved.size) == (DISKS[kind].swap[0], SWAPPED)
    moments = 0
    seen = b""

    def judge(offset: int, data: bytes) -> None:
        nonlocal moments, seen
        now = image.read_bytes()
        for piece in torn(data):
            state = now[:offset] + piece + now[offset + len(piece) :]
            if state == seen:
                continue
            seen = state
            shutil.copy2(image, cut)  # with its attributes
            put(cut, 0, state)
            bootable(cut, kind, tree)
            done = resized(cut, size)
            assert (done.size, finished(cut, kind, tree)) == (expected.size, places), moments
            moments += 1

    with watched(image, judge):
        assert resized(image, size).moved == expected.moved
    assert finished(image, kind, tree) == places
    assert moments > 8
    again = resized(image, size)
    assert (again.changed, again.moved, again.size) == (False, None, expected.size)
