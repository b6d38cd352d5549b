"""A change of a table reaches the disk in its order, and only where it changes something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtstore.errors import Corrupt, NotFound
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.change import (
    Write,
    apply,
    is_container,
    outstanding,
    read_table,
)
from virtstore.filesystems.partitions.mbr import read_mbr
from virtstore.filesystems.partitions.roles import meant
from virtstore.model import Partition


@pytest.mark.parametrize(
    ("kind", "container"), [("5", True), ("f", True), ("F", True), ("85", True), ("83", False)]
)
def test_extended_partitions_only_hold_others(kind: str, container: bool) -> None:
    assert is_container(Partition(number=1, start=0, size=1, type=kind)) is container


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.binary(max_size=1 << 13))
def test_what_is_not_a_table_is_refused_and_nothing_else(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(contents)
    with path.open("rb") as image, pytest.raises(Corrupt):
        read_table(Device(image.fileno(), len(contents)))


def test_each_write_is_flushed_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []
    write, flush = os.pwrite, os.fsync

    def short_write(fd: int, data: bytes, at: int) -> int:
        happened.append(at)
        return write(fd, data[:3], at)

    def watched_flush(fd: int) -> None:
        happened.append("flush")
        flush(fd)

    monkeypatch.setattr(os, "pwrite", short_write)
    monkeypatch.setattr(os, "fsync", watched_flush)
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(64)
        device = Device(image.fileno(), 64)
        plan = (Write(8, b"abcdef"), Write(0, bytes(4)), Write(5, b"xy"))
        assert outstanding(device, plan) == (plan[0], plan[2])
        assert apply(device, plan)
        assert happened == [8, 11, "flush", 5, "flush"]  # a short write goes on
        assert device.read(0, 16) == bytes(5) + b"xy\0abcdef" + bytes(2)
        assert not apply(device, plan)


def test_an_empty_table_has_no_last_partition(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(510) + b"\x55\xaa")
    with path.open("rb") as image, pytest.raises(NotFound, match="empty"):
        meant(read_mbr(Device(image.fileno(), 512)).partitions)
