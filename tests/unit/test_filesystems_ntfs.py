"""NTFS: the exact commands, what their output means, and what is refused without them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore import run
from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.ntfs import Ntfs
from virtstore.filesystems.ntfsresize import complaint, parse_minimum, parse_progress
from virtstore.filesystems.ntfsvolume import Volume, read_volume

CLUSTER = 4096
MADE, IMAGE = 8 << 20, 16 << 20
TABLE, LOG = 4, 64  # their first clusters
DIRTY = 1


def _record(kind: int, attribute: bytes) -> bytes:
    """An MFT record of 1 KiB with one attribute, its sectors' ends kept in front."""
    raw = bytearray(1024)
    body = struct.pack("<II", kind, 8 + len(attribute)) + attribute + struct.pack("<I", 0xFFFFFFFF)
    struct.pack_into("<4sHH", raw, 0, b"FILE", 48, 3)
    struct.pack_into("<H", raw, 0x14, 56)
    raw[56 : 56 + len(body)] = body
    struct.pack_into("<HHH", raw, 48, 7, *struct.unpack_from("<H", raw, 510), 0)
    struct.pack_into("<H", raw, 510, 7)
    struct.pack_into("<H", raw, 1022, 7)
    return bytes(raw)


def _write(device: Device, *, size: int = MADE, flags: int = 0, log: bytes = b"\xff") -> None:
    boot = bytearray(512)
    boot[3:7] = b"NTFS"
    struct.pack_into("<HB", boot, 0x0B, 512, 8)
    struct.pack_into("<QQ", boot, 0x28, size // 512 - 1, TABLE)
    struct.pack_into("<b", boot, 0x40, -10)
    information = struct.pack("<8xIHxx", 12, 24) + struct.pack("<QBBH", 0, 3, 1, flags)
    journal = struct.pack("<B23xH6x24x", 1, 64) + bytes((0x11, 64, LOG, 0))
    os.pwrite(device.fd, boot, 0)
    os.pwrite(device.fd, _record(0x80, journal), TABLE * CLUSTER + 2 * 1024)
    os.pwrite(device.fd, _record(0x70, information), TABLE * CLUSTER + 3 * 1024)
    os.pwrite(device.fd, log * 4096, LOG * CLUSTER)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(IMAGE)
        device = Device(image.fileno(), IMAGE)
        _write(device)
        yield device


class Tools:
    """Stands in for ntfs-3g: notes what is run, answers as told, and "resizes"."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.ran: list[tuple[str, ...]] = []
        self.spared: list[bool] = []
        self.answers: dict[str, tuple[int, bytes]] = {
            "--info": (0, b"You might resize at 4194304 bytes or 5 MB (freeing 4 MB).")
        }

    def __call__(
        self,
        argv: Sequence[str],
        *,
        confined: bool,
        named: Sequence[int],
        outlives_us: bool = False,
        **_: object,
    ) -> run.Completed:
        assert confined
        assert list(named) == [self.device.fd]
        self.ran.append(tuple(argv))
        self.spared.append(outlives_us)
        kind = argv[1] if argv[1] in ("--info", "--no-action", "--readwrite") else "resize"
        status, said = self.answers.get(kind, (0, b""))
        if kind == "resize" and status == 0:
            size = int(argv[-2].removesuffix("ki")) << 10
            _write(self.device, size=size - CLUSTER + 512, flags=DIRTY)
        return run.Completed(tuple(argv), status, b"ntfsresize v2022.10.3\n" + said, b"")


@pytest.fixture
def tools(device: Device, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(device)
    monkeypatch.setattr(run, "run", tools)
    return tools


def test_growing_asks_windows_rehearses_resizes_and_checks(device: Device, tools: Tools) -> None:
    assert Ntfs().grow(device) == Resized(IMAGE - CLUSTER + 512, changed=True)
    path = device.path
    assert tools.ran == [
        ("ntfs-3g.probe", "--readwrite", path),
        ("ntfsresize", "--no-action", "--size", "16384ki", path),
        ("ntfsresize", "--force", "--size", "16384ki", path),
        ("ntfsresize", "--info", "--force", path),
    ]
    assert tools.spared == [False, False, True, False]


def test_only_what_ntfsresize_marked_itself_is_forced(device: Device, tools: Tools) -> None:
    _write(device, flags=DIRTY)
    Ntfs().shrink(device, 5 << 20)
    assert tools.ran[1] == ("ntfsresize", "--no-action", "--force", "--size", "5120ki", device.path)
    assert tools.ran[2] == ("ntfsresize", "--force", "--force", "--size", "5120ki", device.path)


def test_the_estimate_is_tried_and_what_the_tool_advises_next(device: Device, tools: Tools) -> None:
    tools.answers["--no-action"] = (
        1,
        b"$MFTMirr can't be split up yet.\nYou might resize at 6291456 bytes ",
    )
    with pytest.raises(Unsafe, match="cannot be shrunk"):
        Ntfs().shrink(device, None)
    tried = [argv[argv.index("--size") + 1] for argv in tools.ran if "--size" in argv]
    assert tried[:3] == ["4096ki", "6144ki", "6656ki"]
    assert not any(tools.spared)


@pytest.mark.parametrize(
    ("status", "kind", "match"),
    [
        (14, Unsafe, "hibernated.*shutdown /s /t 0"),
        (15, Unsafe, "not cleanly unmounted.*chkdsk"),
        (13, Corrupt, "damaged"),
        (12, Corrupt, "damaged"),
        (18, Corrupt, "damaged"),
        (19, Error, "could not be looked at"),
        (-11, Error, "could not be looked at"),
    ],
)
def test_a_volume_that_the_probe_refuses_is_not_touched(
    device: Device, tools: Tools, status: int, kind: type[Error], match: str
) -> None:
    tools.answers["--readwrite"] = (status, b"")
    with pytest.raises(kind, match=match):
        Ntfs().grow(device)
    assert len(tools.ran) == 1


@pytest.mark.parametrize("flags", [1, 0x10, 0x4000, 0x4001])
def test_a_guests_mark_is_refused(device: Device, tools: Tools, flags: int) -> None:
    _write(device, flags=flags, log=b"R")
    with pytest.raises(Unsafe, match="marked for a check"):
        Ntfs().shrink(device, 5 << 20)
    assert Ntfs().minimum(device) is None
    assert len(tools.ran) == 1


@pytest.mark.parametrize(
    ("said", "kind", "match"),
    [
        (
            b"ERROR: This software has detected that the disk has at least 1 bad sector.",
            Unsafe,
            "/b",
        ),
        (b"ERROR: Highly fragmented $Bitmap isn't supported yet.", Unsupported, "Bitmap"),
        (b"ERROR: Cluster accounting failed", Corrupt, "fails its check .Cluster accounting"),
    ],
)
def test_what_the_rehearsal_refuses_is_not_tried(
    device: Device, tools: Tools, said: bytes, kind: type[Error], match: str
) -> None:
    tools.answers["--no-action"] = (1, said)
    with pytest.raises(kind, match=match):
        Ntfs().grow(device)
    with pytest.raises(kind, match=match):
        Ntfs().shrink(device, 5 << 20)
    assert not any(tools.spared)


def test_a_tool_that_fails_half_way_is_told_from_one_that_did_nothing(
    device: Device, tools: Tools
) -> None:
    tools.answers["resize"] = (1, b"ERROR(28): No space")
    with pytest.raises(Error, match=r"No space.*passes its check"):
        Ntfs().grow(device)
    tools.answers["--info"] = (1, b"ERROR: Filesystem check failed!")
    with pytest.raises(Corrupt, match="left it damaged"):
        Ntfs().grow(device)


def test_a_volume_with_no_cluster_to_spare_passes_and_is_its_own_minimum(
    device: Device, tools: Tools
) -> None:
    tools.answers["--info"] = (1, b"ERROR: Volume is full. To shrink it, delete unused files.")
    assert Ntfs().minimum(device) == MADE
    assert Ntfs().shrink(device, None) == Resized(MADE, changed=False)
    assert Ntfs().grow(device).changed


def test_what_the_tool_prints_is_understood() -> None:
    assert (
        parse_minimum(b"x\nYou might resize at 7921664 bytes or 8 MB (freeing 60 MB).\n") == 7921664
    )
    assert parse_minimum(b"You might resize at") is None
    checking = b"Checking ...\n 99.00 percent completed\r"
    assert parse_progress(checking) is None
    moving = checking + b"Relocating needed data ...\n  5.30 percent completed\r 10.6"
    assert parse_progress(moving) == 530
    said = run.Completed((), 1, b"v1\nERROR(5): Opening '\x01' failed\nIt is damaged\nmore", b"")
    assert complaint(said) == "Opening '?' failed It is damaged"


def test_size_and_state_are_read_from_the_volume(device: Device) -> None:
    assert read_volume(device) == Volume(CLUSTER, MADE // CLUSTER - 1, MADE, False, False)
    _write(device, flags=DIRTY)
    marked = read_volume(device)
    assert marked
    assert marked.resized
    os.pwrite(device.fd, device.read(0, 512), MADE - 512)  # the copy of the boot sector
    guests = read_volume(device)
    assert guests
    assert guests.marked
    assert not guests.resized


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (3, b"XXXX"),
        (0x0B, b"\0\0"),
        (0x0D, b"\0"),
        (0x28, bytes(8)),
        (0x30, bytes(8)),
        (0x40, b"\x80"),
    ],
    ids=["name", "sectors", "clusters", "none", "no table", "records"],
)
def test_a_boot_sector_that_cannot_be_true_is_none(
    device: Device, offset: int, value: bytes
) -> None:
    os.pwrite(device.fd, value, offset)
    assert read_volume(device) is None
    with pytest.raises(Corrupt, match="chkdsk"):
        Ntfs().grow(device)


def test_a_record_that_was_half_written_is_none(device: Device) -> None:
    os.pwrite(device.fd, b"\x08", TABLE * CLUSTER + 3 * 1024 + 1022)
    assert read_volume(device) is None


@given(st.binary(max_size=512), st.integers(0, 2048))
def test_any_bytes_are_judged_without_a_crash(noise: bytes, offset: int) -> None:
    with open(os.memfd_create("image"), "w+b") as image:
        image.truncate(IMAGE)
        device = Device(image.fileno(), IMAGE)
        _write(device, flags=DIRTY)
        os.pwrite(device.fd, noise, TABLE * CLUSTER + 2048 + offset)
        volume = read_volume(device)
        assert volume is None or volume.size == MADE
