"""Partition tables that virtstore does not read: nothing of such a disk is cut, zeros neither."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtstore
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import detect, detect_many, end_of_contents
from virtstore.programs import find

MIB = 1 << 20
SIZE = 64 * MIB
BSD = b"\x57\x45\x56\x82"
Pieces = dict[int, bytes]


def _bsd(at: int, mark: bytes = BSD) -> Pieces:
    return {at: mark, at + 132: mark}


def _record(kind: int, start: int, sectors: int, slot: int = 0) -> Pieces:
    record = struct.pack("<B3sB3sII", 0x80, b"", kind, b"", start, sectors)
    return {446 + 16 * slot: record, 510: b"\x55\xaa"}


def _apple(count: int, start: int, sectors: int) -> bytes:
    return b"PM\0\0" + struct.pack(">III", count, start, sectors) + b"disk".ljust(32, b"\0")


_APM: Pieces = {512: _apple(2, 1, 63), 1024: _apple(2, 64, 100_000)}
LABELS: dict[str, tuple[str, Pieces]] = {
    "bsd on i386": ("bsd", _bsd(512)),
    "bsd on others": ("bsd", _bsd(64)),
    "bsd on big-endian ones": ("bsd", _bsd(128, BSD[::-1])),
    "bsd on large sectors": ("bsd", _bsd(4096)),
    "bsd behind an mbr": ("bsd", _bsd(512) | _record(0xA5, 1, 50_000, slot=3)),
    "apple": ("mac", {0: b"ER" + struct.pack(">HI", 512, 131_072)} | _APM),
    "apple without its first block": ("mac", _APM),
    "atari": ("atari", {450: struct.pack(">I", 131_072), 454: b"\1LNX\0\0\0\2\0\1\x86\xa0"}),
    "dasd": ("dasd", {8192: b"\xe5\xd6\xd3\xf1" * 2}),
    "dasd, linux": ("dasd", {8192: b"\xd3\xd5\xe7\xf1"}),
    "amiga": ("amiga", {1024: b"RDSK"}),
    "ldm": ("ldm", {6 * 512: b"PRIVHEAD"} | _record(0x42, 63, 100_000)),
    "sysv68": ("sysv68", {248: b"MOTOROLA"}),
    "aix": ("aix", {0: b"\xc9\xc2\xd4\xc1"}),
    "ultrix": ("ultrix", {16384 - 72: struct.pack("<II", 0x032957, 1)}),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir(mode=0o700)
    return tmp_path / "images/x.img"


@pytest.fixture
def host(path: Path, tmp_path: Path) -> Iterator[virtstore.Host]:
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{path.parent}"\naccess = "write"\n')
    with virtstore.connect(config=str(config)) as host:
        yield host


def _make(path: Path, pieces: Pieces) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)


@pytest.mark.parametrize("label", LABELS)
def test_a_disk_with_such_a_label_is_measured_by_nobody(path: Path, label: str) -> None:
    kind, pieces = LABELS[label]
    _make(path, pieces)
    with path.open("rb") as file:
        device = Device(file.fileno(), SIZE)
        for found in (detect(device), *detect_many([device, device])):
            assert f"its partition table ({kind})" in found.warnings[-1]
            assert end_of_contents(found) is None


@pytest.mark.parametrize("label", ["bsd on i386", "bsd behind an mbr", "apple", "dasd"])
def test_shrink_does_not_cut_such_a_disk_even_where_there_are_zeros_only(
    path: Path, host: virtstore.Host, label: str
) -> None:
    _make(path, LABELS[label][1])
    for size in ("63M", "20M"):
        with pytest.raises(virtstore.Unsafe, match="of a kind that virtstore does not read"):
            host.image(str(path)).shrink(size)
    assert path.stat().st_size == SIZE


@pytest.mark.parametrize("label", ["sun", "sgi"])
def test_a_label_that_sfdisk_makes_keeps_shrink_from_cutting(
    path: Path, host: virtstore.Host, label: str
) -> None:
    path.touch()
    os.truncate(path, SIZE)
    program = find("sfdisk") or ""
    subprocess.run([program, "-q", "--no-tell-kernel", path], input=f"label: {label}\n".encode(),
                   capture_output=True)  # fmt: skip
    with pytest.raises(virtstore.Unsafe, match=f"partition table \\({label}\\)"):
        host.image(str(path)).shrink("20M")
    assert path.stat().st_size == SIZE


def test_half_a_mark_is_no_label(path: Path) -> None:
    _make(path, {512: BSD, 3000: b"RDSK", 700: b"PRIVHEAD", 8200: b"\xe5\xd6\xd3\xf1"})
    with path.open("rb") as file:
        assert end_of_contents(detect(Device(file.fileno(), SIZE))) == 0


def test_an_iso_that_is_a_disk_as_well_is_left_as_it_is_and_nobody_told_to_wipe_it(
    path: Path, host: virtstore.Host
) -> None:
    volume = b"\x01CD001\x01" + bytes(73) + struct.pack("<I", 5000)
    _make(path, {32768: volume, 34816: b"\xffCD001\x01"} | _record(0x17, 0, 20_000))
    before = path.read_bytes()
    at = host.image(str(path))
    changes: list[Callable[[], object]] = [
        at.growfs,
        lambda: at.resize("minimum"),
        lambda: at.resize("80M"),
    ]
    for change in changes:
        with pytest.raises(virtstore.Unsafe, match="both are meant") as caught:
            change()
        assert "wipefs would spoil it" in caught.value.message
    with pytest.raises(virtstore.Unsafe):
        at.shrink("50M")
    assert path.read_bytes() == before


def test_of_a_file_system_whose_end_is_not_read_a_refusal_to_cut_it_names_the_type(
    path: Path, host: virtstore.Host
) -> None:
    volume = b"\x01CD001\x01" + bytes(73) + struct.pack("<I", 5000)
    _make(path, {32768: volume, 34816: b"\xffCD001\x01"})
    with pytest.raises(virtstore.Unsafe, match="how far a file system of type iso9660 reaches"):
        host.image(str(path)).shrink("1M")
    with pytest.raises(virtstore.Unsupported, match="of type iso9660 cannot be resized"):
        host.image(str(path)).resize("minimum")
