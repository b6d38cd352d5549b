"""Btrfs: what its superblock says, how its smallest size is found, what is refused at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from virtstore import run
from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems import btrfs, loop, mounted
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.btrfs import SMALLEST, Btrfs

MIB = 1 << 20
UUID = "00112233-4455-6677-8899-aabbccddeeff"


def _raw(
    size: int, *, devices: int = 1, flags: int = 1, sector: int = 4096, devid: int = 3
) -> bytes:
    raw = bytearray(4096)
    raw[0x20:0x30] = bytes.fromhex(UUID.replace("-", ""))
    struct.pack_into("<Q8s", raw, 0x38, flags, b"_BHRfS_M")
    struct.pack_into("<QQQI", raw, 0x78, 100 * MIB, 6, devices, sector)
    struct.pack_into("<QQ", raw, 0xC9, devid, size)
    return bytes(raw)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(2000 * MIB)
        device = Device(image.fileno(), 2000 * MIB)
        _write(device, _raw(1000 * MIB))
        yield device


def _write(device: Device, raw: bytes) -> None:
    os.pwrite(device.fd, raw, 64 << 10)


class Kernel:
    """Stands in for btrfs-progs and the kernel: shrinks what fits in `least`, and keeps the
    superblock true."""

    def __init__(self, device: Device, *, least: int, estimate: int) -> None:
        self.device, self.least, self.estimate = device, least, estimate
        self.tried: list[int] = []
        self.clean = True
        self.failure = b""

    def run_mounted(self, whole: Device, mounting: mounted.Mounting, *tool: str) -> run.Completed:
        if tool[1] == "inspect-internal":
            return run.Completed(tool, 0, b"%d bytes (1MiB)\n" % self.estimate, b"")
        devid, _, size = tool[3].partition(":")
        assert devid == "3"
        self.tried.append(int(size))
        if self.failure or int(size) < self.least:
            said = self.failure or b"No space left on device"
            return run.Completed(tool, 1, b"", b"ERROR: unable to resize '/tmp': " + said)
        _write(self.device, _raw(int(size)))
        return run.Completed(tool, 0, b"", b"")

    def run_check(self, whole: Device, *tool: str) -> run.Completed:
        assert tool[:3] == ("btrfs", "check", "--readonly")
        return run.Completed(tool, not self.clean, b"[1/7] checking\n", b"UUID: x\nbad root\n")


@pytest.fixture
def kernel(device: Device, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(device, least=400 * MIB, estimate=600 * MIB)
    monkeypatch.setattr(mounted, "run_mounted", kernel.run_mounted)
    monkeypatch.setattr(mounted, "run_check", kernel.run_check)
    monkeypatch.setattr(loop, "attached", nullcontext)
    return kernel


@pytest.mark.parametrize("estimate", [100, 300, 401, 600, 5000])
def test_the_smallest_size_is_found_whatever_btrfs_thinks(
    device: Device, kernel: Kernel, estimate: int
) -> None:
    kernel.estimate = estimate * MIB
    shrunk = Btrfs().shrink(device, None)
    assert shrunk.changed
    assert 400 * MIB <= shrunk.size <= 416 * MIB
    assert len(kernel.tried) < 9


def test_nothing_is_tried_that_is_less_than_what_is_used_or_the_kernel_takes(
    device: Device, kernel: Kernel
) -> None:
    kernel.least = 0
    kernel.estimate = 100 * MIB
    assert Btrfs().shrink(device, None).size == SMALLEST
    assert min(kernel.tried) == SMALLEST


def test_a_size_is_tried_though_btrfs_thinks_that_it_is_too_small(
    device: Device, kernel: Kernel
) -> None:
    assert Btrfs().shrink(device, 500 * MIB + 1) == Resized(500 * MIB, changed=True)
    assert kernel.tried == [500 * MIB]


def test_one_that_does_not_fit_is_unsafe_and_the_estimate_is_named(
    device: Device, kernel: Kernel
) -> None:
    with pytest.raises(Unsafe, match=f"it keeps its {1000 * MIB}.*{600 * MIB} bytes"):
        Btrfs().shrink(device, 300 * MIB)
    kernel.estimate = 270 * MIB
    with pytest.raises(Unsafe, match="cannot tell"):
        Btrfs().shrink(device, 300 * MIB)


def test_another_failure_is_told_once_the_file_system_is_seen_to_be_whole(
    device: Device, kernel: Kernel
) -> None:
    kernel.failure = b"Input/output error"
    for resize in (partial(Btrfs().grow, device), partial(Btrfs().shrink, device, 300 * MIB)):
        with pytest.raises(Error, match=r"Input/output error.*passes its check"):
            resize()


def test_one_that_fails_its_check_is_corrupt_and_not_resized(
    device: Device, kernel: Kernel
) -> None:
    kernel.clean = False
    for resize in (partial(Btrfs().grow, device), partial(Btrfs().shrink, device, None)):
        with pytest.raises(Corrupt, match=r"was not resized \(bad root\)"):
            resize()
    assert kernel.tried == []


def test_it_grows_to_whole_sectors(device: Device, kernel: Kernel) -> None:
    assert Btrfs().grow(device, 1500 * MIB + 4095) == Resized(1500 * MIB, changed=True)
    assert Btrfs().grow(device) == Resized(2000 * MIB, changed=True)


def test_as_large_or_small_as_asked_already_nothing_is_run(device: Device, kernel: Kernel) -> None:
    kernel.clean = False
    assert Btrfs().grow(device, 1000 * MIB + 1) == Resized(1000 * MIB, changed=False)
    assert Btrfs().shrink(device, 1000 * MIB) == Resized(1000 * MIB, changed=False)
    _write(device, _raw(200 * MIB))
    assert Btrfs().shrink(device, None) == Resized(200 * MIB, changed=False)
    assert Btrfs().minimum(device) is None


def test_what_the_kernel_refuses_as_too_small_is_not_tried(device: Device, kernel: Kernel) -> None:
    with pytest.raises(Unsafe, match=str(SMALLEST)):
        Btrfs().shrink(device, SMALLEST - 1)
    _write(device, _raw(120 * MIB))
    with pytest.raises(Unsupported, match=str(SMALLEST)):
        Btrfs().grow(device, 200 * MIB)
    assert kernel.tried == []


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (_raw(1000 * MIB, devices=2), "spread over 2 devices"),
        (_raw(1000 * MIB, devices=0), "spread over 0 devices"),
        (_raw(1000 * MIB, flags=1 | 1 << 32), "seed"),
    ],
)
def test_one_of_several_devices_and_a_seed_are_unsupported(
    device: Device, kernel: Kernel, raw: bytes, why: str
) -> None:
    _write(device, raw)
    for resize in (partial(Btrfs().grow, device), partial(Btrfs().shrink, device, None)):
        with pytest.raises(Unsupported, match=why):
            resize()
    assert kernel.tried == []


def test_a_uuid_that_the_kernel_has_mounted_is_unsafe(
    device: Device, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: path == f"/sys/fs/btrfs/{UUID}")
    with pytest.raises(Unsafe, match=UUID):
        Btrfs().grow(device)
    assert kernel.tried == []


@pytest.mark.parametrize(
    "raw",
    [bytes(4096), _raw(1)[:4000], _raw(0), _raw(1 << 63), _raw(1, sector=0), _raw(1, sector=5000)],
)
def test_a_superblock_that_cannot_be_true_is_corrupt(device: Device, raw: bytes) -> None:
    _write(device, bytes(4096))
    assert btrfs.parse_superblock(raw) is None
    with pytest.raises(Corrupt, match="superblock"):
        Btrfs().grow(device)


def test_one_that_ends_behind_its_device_was_cut(device: Device) -> None:
    with pytest.raises(Corrupt, match="cut"):
        Btrfs().grow(device.part(0, 999 * MIB))


def test_the_estimate_is_read_or_there_is_none() -> None:
    assert btrfs.parse_minimum(b"441450496 bytes (421.00MiB)\n") == 441450496
    assert btrfs.parse_minimum(b"ERROR: 5 bytes") is None
