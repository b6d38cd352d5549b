"""What must not be cut, what needs no probing, and what the host supports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore import programs
from virtstore.errors import Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.blank import is_blank
from virtstore.filesystems.detect import Contents, detect_many, end_of_contents
from virtstore.filesystems.registry import for_type, support
from virtstore.model import Filesystem, FilesystemSupport, Partition

MIB = 1 << 20
EXT4 = Filesystem(type="ext4", size=1000)
LUKS = Filesystem(type="crypto_LUKS")
FIRST = Partition(number=1, start=100, size=400, type="83")
SECOND = Partition(number=2, start=500, size=700, type="83")


@pytest.mark.parametrize(
    ("contents", "end"),
    [
        (Contents(), 0),
        (Contents(EXT4), 1000),
        (Contents(partitions=(SECOND, FIRST)), 1200),
        (Contents(EXT4, (FIRST,)), 1000),
        (Contents(EXT4, (FIRST, SECOND)), 1200),
        (Contents(LUKS), None),
        (Contents(LUKS, (SECOND,)), None),
        (Contents(measured=False), None),
        (Contents(EXT4, measured=False), None),
    ],
)
def test_nothing_may_be_cut_before_the_end_of_all_that_is_known(
    contents: Contents, end: int | None
) -> None:
    assert end_of_contents(contents) == end


SIZE = 16 << 20


@pytest.mark.parametrize("offset", [0, 1024, 0x10040, (2 << 20) + 5, SIZE - 1, SIZE - (512 << 10)])
@pytest.mark.parametrize("reserved", [False, True], ids=["holes", "written zeros"])
def test_an_image_is_blank_until_there_is_a_mark(
    tmp_path: Path, offset: int, reserved: bool
) -> None:
    with (tmp_path / "image").open("w+b") as image:
        if reserved:
            image.write(bytes(SIZE))
            image.flush()
        image.truncate(SIZE)
        device = Device(image.fileno(), SIZE)
        assert is_blank(device)
        os.pwrite(image.fileno(), b"x", offset)
        assert not is_blank(device)


def test_a_blank_partition_is_told_from_its_neighbours(tmp_path: Path) -> None:
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(SIZE)
        os.pwrite(image.fileno(), b"x", 4095)
        os.pwrite(image.fileno(), b"x", 8192)
        whole = Device(image.fileno(), SIZE)
        assert is_blank(whole.part(4096, 4096))
        assert not is_blank(whole.part(4095, 4096))
        assert not is_blank(whole.part(4096, 4097))
        assert is_blank(whole.part(SIZE, 5))


def test_storage_info_names_the_tools_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        programs, "find", lambda tool: None if tool == "resize2fs" else f"/bin/{tool}"
    )
    told = {each.type: each for each in support(mounting=True)}
    for kind in ("ext2", "ext3", "ext4"):
        assert told[kind] == FilesystemSupport(
            type=kind, grow=False, shrink=False, missing=("resize2fs",)
        )


def test_what_must_be_mounted_is_possible_only_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "find", lambda tool: f"/bin/{tool}")
    for mounting in (True, False):
        able = {each.type: (each.grow, each.shrink) for each in support(mounting=mounting)}
        assert able["ext4"] == (True, True)
        assert able["xfs"] == (mounting, False)
        assert able["btrfs"] == (mounting, mounting)


def test_a_file_system_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"zfs_member.*cannot be resized.*ext4"):
        for_type("zfs_member")


def test_a_device_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "unreadable").write_bytes(b"\1" * MIB)
    (tmp_path / "blank").write_bytes(bytes(MIB))
    unreadable = os.open(tmp_path / "unreadable", os.O_WRONLY)
    blank = os.open(tmp_path / "blank", os.O_RDONLY)
    try:
        bad, good = detect_many([Device(unreadable, MIB), Device(blank, MIB)])
    finally:
        os.close(unreadable)
        os.close(blank)
    assert bad.warnings == ("it cannot be read: Bad file descriptor",)
    assert not bad.measured
    assert good == Contents()
