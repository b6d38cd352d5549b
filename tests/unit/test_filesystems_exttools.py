"""What e2fsck and resize2fs say: how far they are, what they found, and what is no proof."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore import run
from virtstore.filesystems import exttools


@pytest.mark.parametrize(
    ("output", "blocks"),
    [
        (b"Estimated minimum size of the filesystem: 13694\n", 13694),
        (b"Please run 'e2fsck -f x' first.\n", None),
        (b"size: -5\n", None),
        (b"", None),
    ],
)
def test_the_minimum_is_read_where_there_is_one(output: bytes, blocks: int | None) -> None:
    assert exttools.parse_minimum(output) == blocks


def test_a_complaint_is_what_was_found_and_not_what_is_always_said() -> None:
    output = (
        b"e2fsck 1.47.0 (5-Feb-2023)\nPass 1: Checking inodes, blocks, and sizes\n"
        b"/proc/self/fd/5: Inode 12 \x1b[31mhas illegal block(s).\n\n"
        b"/proc/self/fd/5: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n"
    )
    assert exttools.complaint(output) == "Inode 12 ?[31mhas illegal block(s)."
    assert exttools.complaint(b"Pass 1: Checking\n") == "it does not say why"
    bar = b"\x01disk: |==     |  1.8%   \r\x02\x01        \r\x02"
    assert exttools.complaint(bar + b"Inode 12 is bad.\n" + bar) == "Inode 12 is bad."
    assert exttools.complaint(b"/proc/self/fd/5?offset=512: Inode 3\n") == "Inode 3"
    moved = b"Begin pass 2 (max = 9)\nRelocating blocks             " + b"-" * 40 + b"\b" * 40
    assert exttools.complaint(moved + b"XX\nresize2fs: No room\n") == "resize2fs: No room"


@pytest.mark.parametrize(
    ("output", "clean"),
    [
        (b"Pass 1: Checking inodes, blocks, and sizes\n", True),
        (b"Inode 8 extent tree (at level 1) could be narrower.  Optimize? no\n\n", True),
        (b"Superblock last mount time (x,\n\tnow = y) is in the future.\nFix? no\n\n", True),
        (b"Bad required extra isize in superblock (59168).  Fix? no\n\n", False),
        (
            b"Superblock last write time is in the future.\nFix? no\n\nIt is bad.  Clear? no\n",
            False,
        ),
        (b"e2fsck: Superblock invalid, trying backup blocks...\nPass 1: x\n", False),
        (b"e2fsck: Group descriptors look bad... trying backup blocks...\nPass 1: x\n", False),
    ],
)
def test_exit_status_0_is_no_proof_that_a_check_found_nothing(output: bytes, clean: bool) -> None:
    assert exttools.is_clean(run.Completed(("e2fsck",), 0, output, b"")) is clean
    assert not exttools.is_clean(run.Completed(("e2fsck",), 4, output, b""))


@pytest.mark.parametrize(
    ("output", "left"),
    [
        (b"", False),
        (b"Orphan file (inode 12) block 0 is not clean.\nClear? no\n\n"
         b"Failed to initialize orphan file.\nRecreate? no\n\n", True),
        (b"Inode 12, i_blocks is 8192, should be 8194.  Fix? no\n\n"
         b"Inode 8 extent tree (at level 1) could be shorter.  Optimize? no\n\n", True),
        (b"Orphan file (inode 12) block 0 is not clean.\nClear? no\n\n"
         b"Unattached inode 511\nConnect to /lost+found? no\n\n", False),
        (b"e2fsck: Superblock invalid, trying backup blocks...\n"
         b"Orphan file (inode 12) block 0 is not clean.\nClear? no\n\n", False),
    ],
)  # fmt: skip
def test_what_a_resize_leaves_is_told_from_other_damage(output: bytes, left: bool) -> None:
    assert exttools.is_left_by_a_resize(run.Completed(("e2fsck",), 4, output, b"")) is left


def test_a_check_has_come_as_far_as_its_last_bar_says() -> None:
    bar = b"Pass 1: x\n\x01disk: |==     |  1.8%   \r\x02\x01disk: |===    | 42.0%   \r\x02"
    assert exttools.check_progress(b"") is None
    assert exttools.check_progress(b"Pass 1: Checking 99.9% of it\n") is None
    assert exttools.check_progress(bar) == (420, 1000)
    assert exttools.check_progress(bar + b"\x01disk: |=====| 100.0%   \r\x02") == (1000, 1000)


def test_a_resize_has_come_as_far_as_its_last_pass_says() -> None:
    relocating = b"Begin pass 2 (max = 1024)\nRelocating blocks    " + b"-" * 40 + b"\b" * 40
    scanning = b"\nBegin pass 3 (max = 5)\nScanning inode table   " + b"-" * 40 + b"\b" * 40
    assert exttools.resize_progress(b"Resizing the filesystem on X to 9 (1k) blocks.\n") is None
    assert exttools.resize_progress(relocating + b"X" * 10) == (50, 200)
    assert exttools.resize_progress(relocating + b"X" * 40 + scanning) == (80, 200)
    assert exttools.resize_progress(relocating + b"X" * 40 + scanning + b"X" * 99) == (120, 200)


@given(st.binary() | st.from_regex(rb"Begin pass [0-9] \(max = 1\)\nX*\| +[0-9]{1,3}\.[0-9]%"))
def test_whatever_a_tool_writes_progress_stays_within_its_total(output: bytes) -> None:
    for parse in (exttools.check_progress, exttools.resize_progress):
        told = parse(output)
        assert told is None or 0 <= told.done <= told.total
