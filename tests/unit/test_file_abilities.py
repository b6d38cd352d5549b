"""What a file system cannot do with a file is done in another way, or refused."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from virtstore import linux
from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.backends.files import file
from virtstore.backends.files.directory import Directory
from virtstore.digest import CHUNK
from virtstore.errors import InUse, NoSpace

CANNOT = [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield made
    made.close()


def raising(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture(params=CANNOT)
def unreserved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space cannot be reserved, and holes are not told from data."""
    monkeypatch.setattr(linux, "allocate", raising(request.param))
    monkeypatch.setattr(linux, "zero_range", raising(request.param))
    seek = os.lseek

    def lseek(fd: int, offset: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(request.param, "cannot")
        return seek(fd, offset, whence)

    monkeypatch.setattr(os, "lseek", lseek)


def test_a_draft_is_zeros_that_were_written(store: Directory, unreserved: None) -> None:
    with store.draft("x.img", 3 * CHUNK + 1) as made:
        assert made.allocated > 3 * CHUNK
        assert made.read_at(0, 4 * CHUNK) == bytes(3 * CHUNK + 1)
        assert [(e.length, e.kind) for e in made.extents()] == [(3 * CHUNK + 1, "data")]


def test_the_holes_of_a_partial_image_are_filled_and_its_data_is_kept(
    store: Directory, tmp_path: Path, unreserved: None
) -> None:
    with (tmp_path / f"x.img{PARTIAL_SUFFIX}").open("wb") as file:
        file.truncate(3 * CHUNK)
        file.seek(CHUNK + 5)
        file.write(b"so far")
    with store.draft("x.img", 4 * CHUNK) as made:
        assert made.holds == "kept"
        assert made.allocated >= 4 * CHUNK
        assert made.read_at(CHUNK + 5, 6) == b"so far"
        assert made.read_at(0, 4 * CHUNK).strip(b"\0") == b"so far"


def test_nobody_writes_zeros_to_an_image_that_somebody_uses(
    store: Directory, tmp_path: Path, unreserved: None
) -> None:
    (tmp_path / "x.img").touch()
    os.truncate(tmp_path / "x.img", 2 * CHUNK)
    store.grow("x.img", 3 * CHUNK, in_use=True)
    status = (tmp_path / "x.img").stat()
    assert status.st_size == 3 * CHUNK
    assert CHUNK <= status.st_blocks * 512 < 2 * CHUNK
    store.reserve("x.img")
    assert (tmp_path / "x.img").stat().st_blocks * 512 >= 3 * CHUNK


def test_an_image_that_cannot_grow_for_want_of_room_is_as_long_as_before(
    store: Directory, tmp_path: Path, unreserved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.img").write_bytes(b"data")
    monkeypatch.setattr(os, "pwrite", raising(errno.ENOSPC))
    with pytest.raises(NoSpace):
        store.grow("x.img", CHUNK)
    assert (tmp_path / "x.img").read_bytes() == b"data"


def test_a_growth_that_writes_zeros_can_be_ended(
    store: Directory, tmp_path: Path, unreserved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_STEP", CHUNK)
    image = tmp_path / "x.img"
    for in_use, left in ((False, b"data"), (True, b"data" + bytes(2 * CHUNK))):
        image.write_bytes(b"data")
        looks = iter([None] * (3 if not in_use else 2))
        with pytest.raises(StopIteration):
            store.grow("x.img", 9 * CHUNK, in_use=in_use, between=partial(next, looks))
        assert image.read_bytes() == left
        store.grow("x.img", 9 * CHUNK)
        assert image.read_bytes() == b"data".ljust(9 * CHUNK, b"\0")


def test_room_that_is_missed_only_when_it_is_flushed_is_missed(
    store: Directory, tmp_path: Path, unreserved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", raising(errno.EDQUOT))
    with pytest.raises((NoSpace, OSError)):
        store.draft("x.img", CHUNK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_partial_image_is_not_gone_on_with(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", raising(number))
    with store.draft("x.img", 10) as made:
        made.write_at(0, b"so far")
    with pytest.raises(InUse, match=r"no locks.*virtstore clean"):
        store.archive("x.img")
    with pytest.raises(InUse, match=r"no locks.*virtstore clean"):
        store.draft("x.img", 10)
    assert (tmp_path / f"x.img{PARTIAL_SUFFIX}").read_bytes() == b"so far\0\0\0\0"
    store.discard("x.img")
    with store.draft("x.img", 10) as made:
        made.publish(overwrite=False)
    with store.rework("x.img") as made:
        made.write_at(0, b"new")
        made.publish(overwrite=False)
    assert (tmp_path / "x.img").read_bytes() == b"new".ljust(10, b"\0")


@pytest.mark.parametrize("number", CANNOT)
def test_what_cannot_be_written_out_in_parts_is_flushed_in_the_end(
    store: Directory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(linux, "write_out", raising(number))
    with store.draft("x.img", 10) as made:
        made.cache.write_out(0, 10, wait=True)


def test_what_fails_to_be_written_out_in_parts_is_told(
    store: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "write_out", raising(errno.EIO))
    with store.draft("x.img", 10) as made, pytest.raises(OSError, match="error"):
        made.cache.write_out(0, 10, wait=True)


def test_a_file_system_without_modes_is_left_to_its_mount(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", raising(errno.EPERM))
    with store.draft("x.img", 10) as made:
        made.publish(overwrite=False)
    assert store.lacks()[-1] == "file modes"


def test_a_file_system_that_can_do_all_lacks_nothing_of_what_is_missed_most(
    store: Directory, tmp_path: Path
) -> None:
    missed = {"rename without replacing", "new names", "reserved space", "locks", "file modes"}
    assert not missed & set(store.lacks())
    assert list(tmp_path.iterdir()) == []


def test_each_thing_that_is_lacking_is_told(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreserved: None
) -> None:
    for module, call in ((linux, "rename_noreplace"), (fcntl, "flock"), (os, "fsync")):
        monkeypatch.setattr(module, call, raising(errno.EINVAL))
    for call in ("link", "setxattr", "fchmod"):
        monkeypatch.setattr(os, call, raising(errno.EPERM))
    lacks = store.lacks()
    assert set(lacks) == {
        "rename without replacing",
        "new names",
        "reserved space",
        "zeroing",
        "extended attributes",
        "locks",
        "flushing of directories",
        "file modes",
    }
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_which_nothing_can_be_made_is_not_tried(
    store: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", raising(errno.EROFS))
    assert store.lacks() == ()


def test_what_is_grown_in_use_never_shows_space_that_is_zeroed_later(
    store: Directory, tmp_path: Path, unreserved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that sees its disk get longer writes there at once."""
    (tmp_path / "x.img").write_bytes(b"guest")
    pwrite = os.pwrite

    def writing(fd: int, data: bytes, offset: int) -> int:
        assert os.fstat(fd).st_size == offset, "zeros are written into what somebody may have"
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", writing)
    store.grow("x.img", 3 * CHUNK, in_use=True)
    assert (tmp_path / "x.img").read_bytes() == b"guest" + bytes(3 * CHUNK - 5)


@pytest.mark.parametrize("number", CANNOT)
def test_the_zeros_of_a_sparse_draft_are_written_where_no_holes_can_be_made(
    store: Directory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(linux, "punch_hole", raising(number))
    monkeypatch.setattr(linux, "zero_range", raising(number))
    with store.draft("x.img", 9 * CHUNK, sparse=True) as made:
        made.write_at(5, b"data" + bytes(CHUNK) + b"end")
        made.write_at(2 * CHUNK, b"\xff" * CHUNK)
        made.zero(2 * CHUNK, CHUNK - 1)
        written = (b"data" + bytes(CHUNK) + b"end").rjust(CHUNK + 12, b"\0")
        assert made.read_at(0, 9 * CHUNK) == (written.ljust(3 * CHUNK - 1, b"\0") + b"\xff").ljust(
            9 * CHUNK, b"\0"
        )
        assert made.allocated < 5 * CHUNK


@pytest.mark.parametrize("reserves", [True, False], ids=["reserved", "zeros are written"])
def test_what_a_domain_makes_longer_meanwhile_is_not_cut(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserves: bool
) -> None:
    """`virsh blockresize`, while the same image is being grown to less."""
    (path := tmp_path / "x.img").write_bytes(b"guest")
    allocate, longer = linux.allocate, [5 * CHUNK]

    def allocating(fd: int, offset: int, length: int, *, keep_size: bool = False) -> None:
        if longer:
            with path.open("r+b") as theirs:
                theirs.seek(longer.pop() - 5)
                theirs.write(b"guest")
        if not reserves:
            raise OSError(errno.EOPNOTSUPP, "cannot")
        allocate(fd, offset, length, keep_size=keep_size)

    monkeypatch.setattr(linux, "allocate", allocating)
    store.grow("x.img", 3 * CHUNK, in_use=True)
    assert path.read_bytes() == b"guest" + bytes(5 * CHUNK - 10) + b"guest"
