"""lzop's program: what it says is passed on, and it never outlives its use."""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.lzop import Lzop

NOISE = random.Random(5).randbytes(3 << 20)


class Bytes:
    """An archive in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@pytest.fixture
def archive() -> bytes:
    written: list[bytes] = []
    writer = Lzop().writer(written.append)
    writer.write(NOISE[: 1 << 20])
    writer.write(NOISE[1 << 20 :])
    writer.finish()
    return b"".join(written)


@pytest.fixture
def without_lzop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("virtstore.programs.SBIN", "/nonexistent")
    for tool in ("bwrap", "prlimit"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setenv("PATH", str(tmp_path))


def _children() -> set[str]:
    """This process's children, zombies too."""
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


def test_what_lzop_complains_of_is_in_the_message(archive: bytes) -> None:
    damaged = bytearray(archive)
    damaged[1_000_000] ^= 1
    with pytest.raises(Corrupt, match="Checksum error"):
        list(Lzop().read(Bytes(bytes(damaged))))


def test_a_damaged_header_is_what_lzop_says_it_is(archive: bytes) -> None:
    damaged = bytearray(archive)
    damaged[25] ^= 1
    with pytest.raises(Corrupt, match="header"):
        list(Lzop().read(Bytes(bytes(damaged))))


def test_a_reader_that_stops_early_leaves_no_process(archive: bytes) -> None:
    before = _children()
    pieces = Lzop().read(Bytes(archive))
    assert isinstance(pieces, Generator)
    next(pieces)
    assert _children() - before
    pieces.close()
    assert _children() == before


def test_a_writer_that_is_abandoned_leaves_no_process() -> None:
    before = _children()
    writer = Lzop().writer(lambda data: None)
    writer.write(NOISE)
    assert _children() - before
    writer.abandon()
    assert _children() == before


def test_a_reader_and_a_writer_that_end_leave_no_process_and_no_descriptor(archive: bytes) -> None:
    before, descriptors = _children(), len(os.listdir("/proc/self/fd"))
    assert b"".join(Lzop().read(Bytes(archive))) == NOISE
    writer = Lzop().writer(lambda data: None)
    writer.write(NOISE)
    writer.finish()
    assert _children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.usefixtures("without_lzop")
def test_a_host_without_lzop_says_so_and_still_knows_an_archives_size() -> None:
    header = b"\x89LZO\0\r\n\x1a\n" + bytes.fromhex("1040 20a0 0940 01 05") + bytes(21)
    empty = Bytes(header + bytes(4))
    assert Lzop().missing() == ("lzop",)
    assert Lzop().image_size(empty) == 0
    with pytest.raises(Unsupported, match="lzop is not installed"):
        list(Lzop().read(empty))
    with pytest.raises(Unsupported, match="lzop is not installed"):
        Lzop().writer(lambda data: None)
