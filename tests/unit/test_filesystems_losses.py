"""A note of what an image had lost tells of that, and of nothing that took its place."""

from __future__ import annotations

import re

import pytest

from virtstore.filesystems.detect import Contents
from virtstore.filesystems.losses import after_growth, losses_noted, valid
from virtstore.model import Filesystem, Partition

MIB = 1 << 20


def bare(kind: str = "ntfs", uuid: str | None = "A1", size: int | None = 40 * MIB) -> Contents:
    return Contents(Filesystem(type=kind, uuid=uuid, size=size))


def parted(*inside: Filesystem | None) -> Contents:
    """Partitions of 20 MiB each."""
    return Contents(
        partitions=tuple(
            Partition(n, (1 + 20 * (n - 1)) * MIB, 20 * MIB, "83", filesystem=each)
            for n, each in enumerate(inside, start=1)
        )
    )


def told(note: str, contents: Contents, size: int = 99 * MIB) -> list[tuple[int | None, int]]:
    """Which partitions lack something, and how many MiB."""
    found = losses_noted(note, contents, size)
    return [(f.number, int(re.findall(r"lacks (\d+) bytes", f.message)[0]) // MIB) for f in found]


def test_what_was_cut_is_told_after_the_image_has_grown() -> None:
    note = after_growth("", bare(), 30 * MIB)
    assert told(note, bare()) == [(None, 10)]
    assert valid(note) == note
    assert told(note, bare(), 30 * MIB) == []  # it is cut still, which its claims tell
    assert told(note, bare(), 34 * MIB) == [(None, 10)]


@pytest.mark.parametrize(
    "other", [bare(uuid="B2"), bare(kind="ext4"), bare(uuid=None), bare(size=29 * MIB),
              bare(size=None), Contents(), parted(None)],
)  # fmt: skip
def test_what_took_its_place_lacks_nothing(other: Contents) -> None:
    note = after_growth("", bare(), 30 * MIB)
    assert told(note, other) == []
    assert after_growth(note, other, 99 * MIB) == ""


def test_a_file_system_that_was_resized_lacks_what_is_left_of_it() -> None:
    note = after_growth("", bare(), 30 * MIB)
    assert told(note, bare(size=80 * MIB)) == [(None, 10)]
    assert told(note, bare(size=36 * MIB)) == [(None, 6)]


def test_an_image_that_grows_by_steps_lacks_what_it_lacked_before_the_first() -> None:
    note = after_growth("", bare(), 30 * MIB)
    note = after_growth(note, bare(), 35 * MIB)
    note = after_growth(note, bare(), 90 * MIB)
    assert told(note, bare()) == [(None, 10)]
    note = after_growth(note, bare(), 25 * MIB)  # it was cut once more
    assert told(note, bare()) == [(None, 15)]


def test_each_partition_is_told_of_by_itself() -> None:
    swap = Filesystem(type="swap", uuid="C3", size=10 * MIB)
    note = after_growth("", parted(None, None, swap), 30 * MIB)
    assert told(note, parted(None, None, swap)) == [(2, 11), (3, 21)]
    assert told(note, parted(None, Filesystem(type="xfs"), swap)) == [(3, 21)]
    assert after_growth("", parted(None), 21 * MIB) == ""


def test_what_cannot_be_looked_at_loses_no_note() -> None:
    note = after_growth("", bare(), 30 * MIB)
    assert after_growth(note, Contents(measured=False), 50 * MIB) == note


@pytest.mark.parametrize(
    "note", ["x", "1-2", "2-1-0123456789abcdef", "-1-2-0123456789abcdef", "1-2-0123456789ABCDEF",
             "1-2-0123456789abcdef'; rm", "²-3-0123456789abcdef", "::", "9" * 30],
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_none(note: str) -> None:
    assert valid(note) == ""
    assert told(note, bare()) == []
    assert valid(f"{note}:1-2-0123456789abcdef") == "1-2-0123456789abcdef"


def test_a_note_fits_a_tag_whatever_is_cut() -> None:
    many = Contents(partitions=tuple(Partition(n, n * MIB, 10**18, "83") for n in range(1, 128)))
    assert len(after_growth("", many, 10**15)) < 1000
