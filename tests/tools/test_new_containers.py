"""A new qcow2 is written without its daemon: QEMU reads in it what was written, nothing is leaked,
and what was left of one is QEMU's to go on with."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

import virtstore
from virtstore.backends.base import ImageDraft
from virtstore.backends.files.container_directory import ContainerDirectory

MIB: Final = 1 << 20
CLUSTER: Final = 64 << 10
#: No whole clusters, and more than one L2 table tells of.
SIZE: Final = 600 * MIB + 512
#: A file of more bytes has its reference counts in more than one cluster.
COUNTED: Final = 2 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContainerDirectory]:
    with closing(ContainerDirectory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))) as store:
        yield store


@pytest.fixture
def no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon cannot be started."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a daemon was started")

    monkeypatch.setattr("virtstore.backends.files.container.Export", refuse)


def require(path: Path, contents: dict[int, bytes], tmp_path: Path) -> None:
    """The qcow2 is whole, leaks nothing, and its disk has these bytes and zeros."""
    raw = tmp_path / "expected.img"
    with raw.open("wb") as file:
        for offset, data in contents.items():
            file.seek(offset)
            file.write(data)
        file.truncate(SIZE)
    qemu_img("check", "-f", "qcow2", path)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, path)


def qemu_img(*words: object) -> None:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 0, done


@pytest.mark.usefixtures("no_daemon")
@pytest.mark.parametrize("preallocate", [False, True])
def test_what_threads_write_anywhere_is_what_qemu_reads(
    store: ContainerDirectory, tmp_path: Path, *, preallocate: bool
) -> None:
    chance = random.Random(7)
    block = 96 << 10  # two share each second cluster
    offsets = [*range(0, 6 * MIB, block), *range(511 * MIB + 5, 514 * MIB, block), SIZE - 700]
    wanted = {o: chance.randbytes(min(block, SIZE - o)) for o in offsets if chance.random() < 0.8}
    wanted[3 * block] = bytes(block)
    with store.draft("x.qcow2", SIZE, preallocate=preallocate) as draft:
        assert draft.holds == "zeros"
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: draft.write_at(*one), wanted.items()))
        over, zeroed = offsets[1] + 1000, offsets[2] + 5
        draft.write_at(over, b"over")
        draft.zero(zeroed, 9999)
        draft.publish(overwrite=False)
    written = {0: b"", **wanted, over: b"over", zeroed: bytes(9999)}
    require(tmp_path / "x.qcow2", written, tmp_path)


@pytest.mark.usefixtures("no_daemon")
def test_zeros_take_no_room_and_what_is_preallocated_stays_so(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    data = bytes(2 * CLUSTER) + b"x" * CLUSTER + bytes(5 * CLUSTER)
    for name, preallocate in (("x.qcow2", False), ("reserved.qcow2", True)):
        with store.draft(name, SIZE, preallocate=preallocate) as draft:
            draft.write_at(8 * CLUSTER, data)
            draft.zero(0, SIZE)
            draft.write_at(8 * CLUSTER, data)
            draft.publish(overwrite=False)
        require(tmp_path / name, {8 * CLUSTER: data}, tmp_path)
    taken = {path.name: path.stat().st_blocks * 512 for path in tmp_path.glob("*.qcow2")}
    assert taken["x.qcow2"] <= 8 * CLUSTER
    assert taken["reserved.qcow2"] >= SIZE


@pytest.mark.usefixtures("no_daemon")
def test_a_file_of_more_than_2_gib_counts_all_its_clusters(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    data = random.Random(2).randbytes(8 * MIB)
    with store.draft("x.qcow2", SIZE) as draft:
        draft.write_at(0, data[:CLUSTER])
        left = tmp_path / "x.qcow2.virtstore-partial"
        os.truncate(left, COUNTED - 5 * CLUSTER)  # a hole of which QEMU knows nothing
        draft._clusters._end = left.stat().st_size  # type: ignore[attr-defined]
        draft.write_at(CLUSTER, data[CLUSTER:])
        draft.publish(overwrite=False)
    require(tmp_path / "x.qcow2", {0: data}, tmp_path)
    assert (tmp_path / "x.qcow2").stat().st_size > COUNTED


@pytest.mark.usefixtures("no_daemon")
def test_nothing_is_written_behind_the_end_of_the_disk(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    with store.draft("x.qcow2", SIZE) as draft:
        writes: tuple[Callable[[], None], ...] = (
            lambda: draft.write_at(SIZE - 1, b"xy"),
            lambda: draft.zero(SIZE, 1),
        )
        for write in writes:
            with pytest.raises(OSError, match="ends before") as caught:
                write()
            assert caught.value.errno == errno.EIO
        draft.publish(overwrite=False)
    require(tmp_path / "x.qcow2", {}, tmp_path)


def test_what_is_written_can_be_read_before_it_is_published(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(3 * MIB)
    with store.draft("x.qcow2", SIZE) as draft:
        draft.write_at(MIB, data)
        assert draft.read_at(MIB, len(data)) == data
        assert {e.kind for e in draft.extents() if e.offset < MIB} == {"zero"}
        draft.write_at(5 * MIB, data)
        draft.zero(MIB, MIB)
        with draft.lend() as fd:
            assert os.pread(fd, len(data), 5 * MIB) == data
        draft.publish(overwrite=False)
    require(tmp_path / "x.qcow2", {2 * MIB: data[MIB:], 5 * MIB: data}, tmp_path)


def test_what_was_left_of_one_is_whole_and_gone_on_with(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    data = random.Random(3).randbytes(3 * MIB)
    with store.draft("x.qcow2", SIZE) as draft:
        draft.write_at(MIB, data)
    qemu_img("check", "-f", "qcow2", tmp_path / "x.qcow2.virtstore-partial")
    with store.draft("x.qcow2", SIZE) as draft:
        assert draft.holds == "kept"
        assert draft.read_at(MIB, len(data)) == data
        draft.write_at(0, data)
        draft.publish(overwrite=False)
    require(tmp_path / "x.qcow2", {0: data, 3 * MIB: data[2 * MIB :]}, tmp_path)


@pytest.mark.usefixtures("no_daemon")
def test_one_whose_tables_were_damaged_meanwhile_is_not_published(
    store: ContainerDirectory, tmp_path: Path
) -> None:
    def damage(draft: ImageDraft) -> None:
        draft.write_at(0, b"x" * MIB)
        with (tmp_path / "x.qcow2.virtstore-partial").open("r+b") as file:
            file.seek(2 * CLUSTER)  # the reference counts
            file.write(bytes(CLUSTER))

    with store.draft("x.qcow2", SIZE) as draft:
        damage(draft)
        with pytest.raises(virtstore.Corrupt):
            draft.publish(overwrite=False)
        assert not draft.whole
    assert not (tmp_path / "x.qcow2").exists()


def test_one_whose_daemon_does_not_start_is_written_all_the_same(
    store: ContainerDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wanted to look into it goes without that; and its file is closed once."""
    (program := tmp_path / "qemu-storage-daemon").write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    with store.draft("x.qcow2", SIZE) as draft, monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(virtstore.Error), draft.lend():
            pass
        draft.write_at(0, b"x" * MIB)
        draft.publish(overwrite=False)
    require(tmp_path / "x.qcow2", {0: b"x" * MIB}, tmp_path)
