"""XFS: what its superblock says, what is run, and what is refused without running anything."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Unsupported, UsageError
from virtstore.filesystems import loop, mounted, xfs
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.xfs import Superblock, Xfs

IMAGE = 1 << 20


def _raw(*, block: int = 4096, blocks: int = 100, realtime: int = 0, log: int = 9) -> bytes:
    return (b"XFSB" + struct.pack(">IQQQ16sQ", block, blocks, realtime, 0, b"", log)).ljust(512)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Nothing may be run on it."""
    for module, name in ((mounted, "run_mounted"), (mounted, "run_check"), (loop, "attached")):
        monkeypatch.setattr(module, name, None)
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(IMAGE)
        os.pwrite(image.fileno(), _raw(), 0)
        yield Device(image.fileno(), IMAGE)


def test_the_superblock_is_read() -> None:
    read = Superblock(block_size=4096, blocks=100, external_log=False, realtime=False)
    assert xfs.parse_superblock(_raw()) == read
    assert read.size == 409600


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(512),
        _raw()[:50],
        _raw(block=0),
        _raw(block=4095),
        _raw(block=1 << 17),
        _raw(blocks=0),
        _raw(blocks=1 << 63),
    ],
)
def test_one_that_cannot_be_true_is_none(raw: bytes) -> None:
    assert xfs.parse_superblock(raw) is None


def test_as_large_as_asked_already_nothing_is_run(device: Device) -> None:
    assert Xfs().grow(device, 409600 + 4095) == Resized(409600, changed=False)


def test_it_is_never_given_less_than_it_has(device: Device) -> None:
    # xfs_growfs would try to shrink it.
    with pytest.raises(UsageError):
        Xfs().grow(device, 409600 - 1)


@pytest.mark.parametrize(("raw", "part"), [(_raw(log=0), "log"), (_raw(realtime=5), "real-time")])
def test_a_part_on_another_device_is_unsupported(device: Device, raw: bytes, part: str) -> None:
    os.pwrite(device.fd, raw, 0)
    with pytest.raises(Unsupported, match=part):
        Xfs().grow(device)


def test_it_cannot_shrink_unless_it_is_that_small_already(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Device] = []
    monkeypatch.setattr(loop, "attached", nullcontext)
    monkeypatch.setattr(xfs, "_check_before", checked.append)
    assert Xfs().shrink(device, 409600) == Resized(409600, changed=False)
    with pytest.raises(Unsupported, match=r"cannot shrink.*copy the files"):
        Xfs().shrink(device, 409599)
    with pytest.raises(Unsupported):
        Xfs().shrink(device, None)
    assert Xfs().minimum(device) is None
    assert checked == [device]  # its log may hold a growth: only a check can tell


def test_what_is_not_xfs_or_was_cut_is_corrupt(device: Device) -> None:
    with pytest.raises(Corrupt, match="superblock"):
        Xfs().grow(device.part(4096, 4096))
    with pytest.raises(Corrupt, match="cut"):
        Xfs().grow(device.part(0, 400_000))


def test_only_the_data_section_is_grown_and_to_an_explicit_size() -> None:
    assert xfs.grow_argv(12) == ("xfs_growfs", "-d", "-D", "12", mounted.POINT)


def test_the_check_only_reads() -> None:
    assert xfs.check_argv(Device(5, 1)) == ("xfs_repair", "-n", "/proc/self/fd/5")
