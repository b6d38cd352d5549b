"""A qcow2 is read where its clusters lie, and just as QEMU reads it: what its tables say otherwise,
or falsely, is QEMU's to answer."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from virtstore.backends.base import Image
from virtstore.backends.descriptor import read_from
from virtstore.backends.files.container import ContainerImage
from virtstore.backends.files.container_directory import ContainerDirectory

CLUSTER: Final = 64 << 10
MIB: Final = 1 << 20
#: Data, zeros, data; the disk ends within a cluster.
DATA: Final = random.Random(5).randbytes(20 * CLUSTER)
CONTENTS: Final = DATA[: 5 * CLUSTER + 777] + bytes(3 * MIB) + DATA + DATA[: 3 * 512]
CONTENTS_SIZE: Final = len(CONTENTS) // 512 * 512
DISK: Final = CONTENTS[:CONTENTS_SIZE]

PLAIN: Final = {
    "default": (),
    "version 2": ("-o", "compat=0.10"),
    "large clusters": ("-o", "cluster_size=2M"),
    "metadata": ("-o", "preallocation=metadata"),
    "reserved": ("-o", "preallocation=falloc"),
}
OTHERWISE: Final = {
    "compressed": ("-c",),
    "small clusters": ("-o", "cluster_size=512"),
    "parts": ("-o", "extended_l2=on"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContainerDirectory]:
    with closing(ContainerDirectory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))) as store:
        yield store


def make(directory: Path, *options: str) -> Path:
    raw, made = directory / "raw.img", directory / "x.qcow2"
    raw.write_bytes(DISK)
    qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, made)
    return made


def qemu(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True, timeout=60)


def read(image: Image) -> bytes:
    """The disk, read at odd places and in odd lengths."""
    step = 3 * CLUSTER + 1
    return b"".join(image.read_at(at, step) for at in range(0, image.size, step))


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_what_lies_in_the_file_as_it_is_needs_no_daemon(
    store: ContainerDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    make(tmp_path, *options)

    def asked(_: int, offset: int, length: int) -> bytes:
        raise AssertionError(f"the daemon was asked for {length} bytes at {offset}")

    with store.open("x.qcow2") as image:
        assert read(image) == DISK
        monkeypatch.setattr("virtstore.backends.files.container.read_from", asked)
        assert image.read_at(0, len(DISK)) == DISK


@pytest.mark.parametrize("options", OTHERWISE.values(), ids=OTHERWISE)
def test_what_lies_there_otherwise_is_read_too(
    store: ContainerDirectory, tmp_path: Path, options: tuple[str, ...]
) -> None:
    make(tmp_path, *options)
    with store.open("x.qcow2") as image:
        assert read(image) == DISK


def test_clusters_that_are_marked_as_zeros_are_zeros(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    made = make(tmp_path)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -z 64k 128k", "-c", "write -zu 4M 64k", made)
    wanted = bytearray(DISK)
    wanted[CLUSTER : 3 * CLUSTER] = bytes(2 * CLUSTER)
    wanted[4 * MIB : 4 * MIB + CLUSTER] = bytes(CLUSTER)
    with store.open("x.qcow2") as image:
        assert read(image) == wanted


def test_a_disk_that_has_snapshots_is_read_as_it_is_now(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    made = make(tmp_path)
    qemu("qemu-img", "snapshot", "-c", "before", made)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 64k 100k", made)
    wanted = bytearray(DISK)
    wanted[CLUSTER : CLUSTER + (100 << 10)] = b"\7" * (100 << 10)
    with store.open("x.qcow2") as image:
        assert read(image) == wanted


@pytest.mark.parametrize("bit", [0, 3, 8, 9, 12, 16, 17, 20, 30, 45, 55, 56, 60, 61, 62, 63])
@pytest.mark.parametrize("table", ["L1", "L2"])
def test_entries_that_somebody_forged_lead_where_qemu_is_led(
    store: ContainerDirectory, tmp_path: Path, table: str, bit: int
) -> None:
    made = make(tmp_path)
    with made.open("r+b") as file:
        entries = struct.unpack(">Q", os.pread(file.fileno(), 8, 40))[0]
        if table == "L2":
            entries = struct.unpack(">Q", os.pread(file.fileno(), 8, entries))[0] & ~(1 << 63)
        (entry,) = struct.unpack(">Q", os.pread(file.fileno(), 8, entries))
        os.pwrite(file.fileno(), struct.pack(">Q", entry ^ 1 << bit), entries)
    with store.open("x.qcow2") as image:
        assert isinstance(image, ContainerImage)
        for at in range(0, len(DISK), CLUSTER):
            assert _told(image.read_at, at) == _told(
                lambda at, length: read_from(image._export.direct, at, length), at
            )


def _told(read: object, at: int) -> bytes | str:
    assert callable(read)
    try:
        data: bytes = read(at, CLUSTER)
    except OSError as error:
        return f"{error.errno}"
    return data
