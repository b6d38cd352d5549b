"""What a directory keeps beyond the contract: modes, owners, names, and other people's files."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtstore import linux
from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, Draft
from virtstore.backends.files.directory import Directory
from virtstore.backends.files.file import NewFiles
from virtstore.errors import Denied, InUse, NoSpace, NotFound, UsageError

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def opened(path: Path, new: NewFiles | None = None) -> Directory:
    return Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY), new)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Directory]:
    made = opened(tmp_path)
    yield made
    made.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Directory]:
    """The same directory on another host."""
    made = opened(tmp_path, NewFiles(mode=0o640))
    yield made
    made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_draft_is_its_makers_alone_whatever_the_umask(store: Directory, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.draft("x.img", 10).close()
    finally:
        os.umask(before)
    assert mode(tmp_path / f"x.img{PARTIAL_SUFFIX}") == 0o600


def test_a_new_image_gets_the_configured_mode(tmp_path: Path) -> None:
    store = opened(tmp_path, NewFiles(mode=0o640))
    with store.draft("x.img", 10) as draft:
        draft.publish(overwrite=False)
    store.close()
    assert mode(tmp_path / "x.img") == 0o640


@AS_ROOT
def test_a_new_image_gets_the_configured_owner(tmp_path: Path) -> None:
    store = opened(tmp_path, NewFiles(owner=4711, group=4712))
    with store.draft("x.img", 10) as draft:
        draft.publish(overwrite=False)
    store.close()
    status = (tmp_path / "x.img").stat()
    assert (status.st_uid, status.st_gid, mode(tmp_path / "x.img")) == (4711, 4712, 0o600)


@AS_ROOT
@pytest.mark.parametrize("how", ["overwrite", "like", "rework"])
def test_what_replaces_an_image_keeps_its_mode_and_owner(
    store: Directory, tmp_path: Path, how: str
) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    os.chown(tmp_path / "x.img", 4711, 4712)
    (tmp_path / "x.img").chmod(0o644)
    name = "y.img" if how == "like" else "x.img"
    with store.rework(name) if how == "rework" else store.draft(name, 10) as draft:
        draft.publish(overwrite=how == "overwrite", like="x.img" if how == "like" else None)
    status = (tmp_path / name).stat()
    assert (status.st_uid, status.st_gid, mode(tmp_path / name)) == (4711, 4712, 0o644)


@AS_ROOT
def test_who_may_not_give_a_file_away_is_told_whom_it_would_belong_to(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    os.chown(tmp_path / "x.img", 4711, 4712)
    os.chown(tmp_path, 4711, 4711)
    os.setegid(4711)
    os.seteuid(4711)
    try:
        with store.draft("x.img", 10) as draft, pytest.raises(Denied, match=r"gid 4712.* uid 4711"):
            draft.publish(overwrite=True)
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert (tmp_path / "x.img").read_bytes() == b"old"


def _leftover(tmp_path: Path) -> Path:
    path = tmp_path / f"x.img{PARTIAL_SUFFIX}"
    path.write_bytes(b"planted")
    return path


def _taken_up(store: Directory) -> bytes:
    with store.draft("x.img", 7) as draft:
        return draft.read_at(0, 7)


def test_a_leftover_of_our_own_is_taken_up(store: Directory, tmp_path: Path) -> None:
    _leftover(tmp_path).chmod(0o666)
    assert _taken_up(store) == b"planted"
    assert mode(tmp_path / f"x.img{PARTIAL_SUFFIX}") == 0o600


def _once_before_locking(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Something happens on another host just before this one gets its lock of a file."""
    flock = fcntl.flock
    yet = [happens]

    def locking(fd: int, operation: int) -> None:
        if yet:
            yet.pop()()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", locking)


@pytest.mark.parametrize(
    "begin",
    [
        lambda store: store.draft("x.img", 3),
        lambda store: store.draft("x.img", 3, sparse=True),
        lambda store: store.archive("x.img"),
    ],
    ids=["draft", "sparse draft", "archive"],
)
def test_a_draft_that_gets_its_name_on_another_host_is_not_taken_up(
    store: Directory,
    elsewhere: Directory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[Directory], Draft],
) -> None:
    """It is found as a draft, and is an image once its lock is free. Nothing of that is changed."""
    theirs = elsewhere.draft("x.img", 7)
    theirs.write_at(0, b"theirs!")

    def publish() -> None:
        with theirs:
            theirs.publish(overwrite=False)

    _once_before_locking(monkeypatch, publish)
    with pytest.raises(InUse, match="run the same command again"), begin(store):
        pass
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.img", b"theirs!")]
    assert mode(tmp_path / "x.img") == 0o640
    assert os.listxattr(tmp_path / "x.img") == []


def test_what_is_left_of_an_image_that_gets_its_name_back_on_another_host_is_not_gone_on_with(
    store: Directory, elsewhere: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"x.img{REWORK_SUFFIX}").write_bytes(b"half of theirs")
    theirs = elsewhere.rework("x.img")
    theirs.write_at(0, b"all of theirs!")

    def publish() -> None:
        with theirs:
            theirs.publish(overwrite=False)

    _once_before_locking(monkeypatch, publish)
    with pytest.raises(InUse, match="run the same command again"), store.rework("x.img") as ours:
        ours.write_at(0, b"ours")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.img", b"all of theirs!")]


def test_what_another_host_writes_to_a_draft_before_it_is_locked_is_seen(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else zeros would not be written over it."""
    path = tmp_path / f"x.img{PARTIAL_SUFFIX}"
    path.touch()

    def write() -> None:
        path.write_bytes(b"theirs!")

    _once_before_locking(monkeypatch, write)
    with store.draft("x.img", 7) as draft:
        assert draft.holds == "kept"


def test_a_leftover_with_another_name_is_not_built_upon(store: Directory, tmp_path: Path) -> None:
    os.link(_leftover(tmp_path), tmp_path / "victim")
    assert _taken_up(store) == bytes(7)
    assert (tmp_path / "victim").read_bytes() == b"planted"


@AS_ROOT
def test_a_leftover_of_somebody_else_is_not_built_upon(store: Directory, tmp_path: Path) -> None:
    with _leftover(tmp_path).open("rb") as planted:
        os.fchown(planted.fileno(), 4711, 4711)
        assert _taken_up(store) == bytes(7)
        assert (tmp_path / f"x.img{PARTIAL_SUFFIX}").stat().st_uid == 0


def test_a_link_in_a_leftovers_place_is_not_followed(store: Directory, tmp_path: Path) -> None:
    (tmp_path / f"x.img{PARTIAL_SUFFIX}").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_bytes(b"as it was")
    with pytest.raises(Denied, match="symbolic link"):
        store.draft("x.img", 100)
    assert (tmp_path / "victim").read_bytes() == b"as it was"


def test_a_file_that_was_copied_in_by_hand_is_an_image_like_any_other(
    store: Directory, tmp_path: Path
) -> None:
    for name in ("web.img", "no ending", ".hidden", "ü.img", "-rf"):
        (tmp_path / name).write_bytes(b"data")
        found = store.find(name)
        assert found
        assert (found.type, found.state, found.size) == ("file", "complete", 4)
        with store.open(name) as image:
            assert image.read_at(0, 10) == b"data"


def test_a_listing_says_what_is_no_image(store: Directory, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / f"d{PARTIAL_SUFFIX}").mkdir()
    found = {s.name: (s.type, s.state) for s in store.scan()}
    assert found == {
        "dir": ("directory", "complete"),
        "link": ("other", "complete"),
        "fifo": ("other", "complete"),
        f"d{PARTIAL_SUFFIX}": ("directory", "complete"),
    }
    for name in ("dir", "link", "fifo"):
        with pytest.raises((Denied, NotFound)):
            store.remove(name)
        with pytest.raises((Denied, NotFound)):
            store.rework(name)
    assert {s.name for s in store.scan()} == set(found)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_file_system_that_is_full_after_all_leaves_nothing(
    store: Directory, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "full")

    with store.draft("x.img", 10) as draft:
        draft.publish(overwrite=False)
    monkeypatch.setattr(linux, "allocate", full)
    with pytest.raises(NoSpace):
        store.draft("y.img", 5000)
    with pytest.raises(NoSpace):
        store.grow("x.img", 5000)
    found = [(s.name, s.size) for s in store.scan()]
    assert found == [("x.img", 10)]


@pytest.mark.parametrize("number", ["EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_that_cannot_reserve_space_gets_zeros_written(
    store: Directory, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "cannot")

    monkeypatch.setattr(linux, "allocate", cannot)
    monkeypatch.setattr(linux, "zero_range", cannot)
    with store.draft("x.img", 3 << 20) as draft:
        assert draft.allocated >= 3 << 20
        draft.write_at(0, b"\xff" * 100)
        draft.zero(10, 50)
        assert draft.read_at(0, 100) == b"\xff" * 10 + bytes(50) + b"\xff" * 40


def test_a_sparse_file_keeps_its_holes_when_it_grows_until_they_are_to_be_reserved(
    store: Directory, tmp_path: Path
) -> None:
    with (tmp_path / "x.img").open("wb") as file:
        file.truncate(8 << 20)
    store.grow("x.img", 9 << 20)
    assert 1 << 20 <= (tmp_path / "x.img").stat().st_blocks * 512 < 2 << 20
    store.grow("x.img", 20 << 20, sparse=True)
    assert (tmp_path / "x.img").stat().st_blocks * 512 < 2 << 20
    store.reserve("x.img")
    assert (tmp_path / "x.img").stat().st_blocks * 512 >= 20 << 20


def test_a_directory_knows_its_file_system(store: Directory, tmp_path: Path) -> None:
    assert store.total() >= store.free() > 0
    told = subprocess.check_output(["stat", "-f", "-c", "%T", str(tmp_path)], text=True).strip()
    assert store.filesystem() in told.replace("ext2/ext3", "ext2/ext3/ext4")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_has_the_final_name_already_says_nothing_of_a_new_image(
    tmp_path: Path,
) -> None:
    store = Directory(os.open(tmp_path, os.O_RDONLY))
    with store.draft("x.img", 10) as draft:
        (tmp_path / "x.img").touch(0o644)
        os.chown(tmp_path / "x.img", 4711, 4711)
        with pytest.raises(FileExistsError):
            draft.publish(overwrite=False)
        (partial,) = tmp_path.glob("*partial")
        status = partial.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, 0)
    store.close()


def test_the_longest_name_leaves_room_for_what_an_image_is_called_meanwhile(
    store: Directory, tmp_path: Path
) -> None:
    longest = os.statvfs(tmp_path).f_namemax - len(PARTIAL_SUFFIX)
    name = "n" * longest
    store.require_name(name)
    with store.draft(name, 10) as draft:
        draft.publish(overwrite=False)
    store.require_name("ü" * (longest // 2))
    for longer in (name + "n", "ü" * (longest // 2 + 1), "n" * 255, "n" * 300):
        with pytest.raises(UsageError, match=f"at most {longest} are possible"):
            store.require_name(longer)


@pytest.mark.parametrize("length", [238, 255])
def test_an_image_with_a_longer_name_is_there_all_the_same(
    store: Directory, tmp_path: Path, length: int
) -> None:
    (tmp_path / ("n" * length)).write_bytes(b"image")
    found = store.find("n" * length)
    assert found is not None
    with store.open("n" * length) as image:
        assert image.read_at(0, 10) == b"image"
    store.grow("n" * length, 4096)
    store.discard("n" * length)
    store.remove("n" * length)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [238, 256, 5000])
def test_what_cannot_be_called_so_is_not_there(store: Directory, length: int) -> None:
    assert store.find("n" * length) is None
    with pytest.raises(NotFound):
        store.open("n" * length)


@pytest.mark.parametrize(
    "name",
    [".virtstore-0123456789abcdef", ".nfs0123456789abcdef", ".fuse_hidden0123456789abcdef"],
)
def test_no_image_gets_a_name_that_no_listing_shows(store: Directory, name: str) -> None:
    with pytest.raises(UsageError, match="no listing shows"):
        store.require_name(name)
