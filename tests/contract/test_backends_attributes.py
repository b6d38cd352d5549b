"""Who may read an image, and what it is marked with, goes to whatever replaces it: owner, mode,
access list, labels, other attributes. At no moment may anybody read it who could not before."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.backends.files.directory import Directory
from virtstore.backends.files.file import NewFiles
from virtstore.errors import Denied

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
LIST, LIST_OF_NEW = "system.posix_acl_access", "system.posix_acl_default"
BOB, OTHER = 4711, 4712
NOBODY = 0xFFFFFFFF


def access_list(owner: int, bob: int, group: int, mask: int, others: int) -> bytes:
    """An access list with one named user (linux/posix_acl_xattr.h)."""
    entries = ((1, owner, NOBODY), (2, bob, BOB), (4, group, NOBODY), (16, mask, NOBODY))
    packed = (struct.pack("<HHI", *entry) for entry in (*entries, (32, others, NOBODY)))
    return struct.pack("<I", 2) + b"".join(packed)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    try:
        os.setxattr(tmp_path, "user.test", b"")
        os.setxattr(tmp_path, LIST, access_list(7, 0, 0, 0, 0))
        os.removexattr(tmp_path, LIST)
    except OSError as error:
        pytest.skip(f"no access lists or attributes on this file system: {error}")
    return tmp_path


@contextmanager
def opened(path: Path, new: NewFiles | None = None) -> Iterator[Directory]:
    store = Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY), new)
    try:
        yield store
    finally:
        store.close()


def beside(path: Path) -> dict[str, bytes]:
    """All extended attributes, but what the host's own security module sets on any file."""
    names = [name for name in os.listxattr(path) if not name.startswith("security.s")]
    return {name: os.getxattr(path, name) for name in names}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def image(place: Path, name: str = "x.img") -> Path:
    """One that Bob may read by its access list, and its group may not."""
    path = place / name
    path.write_bytes(b"old")
    path.chmod(0o600)
    os.setxattr(path, LIST, access_list(6, 4, 0, 4, 0))
    os.setxattr(path, "user.note", b"of its owner")
    os.utime(path, ns=(10**18, 10**18 + 5))
    return path


def replace(store: Directory, how: str) -> str:
    name = "x.img.zst" if how == "like" else "x.img"
    with store.archive(name) if how == "like" else store.draft(name, 10) as draft:
        draft.publish(overwrite=how == "overwrite", like="x.img" if how == "like" else None)
    return name


@pytest.mark.parametrize("how", ["overwrite", "like"])
def test_what_replaces_an_image_has_its_access_list_and_attributes(place: Path, how: str) -> None:
    old = beside(image(place))
    os.setxattr(place / "x.img", "user.virtstore.shrinking", b"5 of the old contents")
    with opened(place) as store:
        made = place / replace(store, how)
    assert beside(made) == old
    assert mode(made) == 0o640  # the mask; the list says that the group has nothing
    kept = made.stat().st_mtime_ns == 10**18 + 5
    assert kept == (how == "like")  # as gzip and zstd do it; other contents are newer


@AS_ROOT
@pytest.mark.parametrize("name", ["trusted.note", "security.note"])
@pytest.mark.parametrize("how", ["overwrite", "like"])
def test_labels_that_only_root_sets_go_along(place: Path, how: str, name: str) -> None:
    path = image(place)
    os.chown(path, BOB, OTHER)
    os.setxattr(path, name, b"label")
    old = beside(path)
    with opened(place) as store:
        made = place / replace(store, how)
    assert beside(made) == old
    assert (made.stat().st_uid, made.stat().st_gid) == (BOB, OTHER)


@AS_ROOT
@pytest.mark.parametrize("how", ["overwrite", "like", "rework"])
def test_the_power_of_a_program_does_not_go_to_other_contents(place: Path, how: str) -> None:
    path = image(place)
    os.chown(path, BOB, OTHER)
    path.chmod(0o6750)
    capability = struct.pack("<IIIII", 0x02000000, 1, 0, 0, 0)
    os.setxattr(path, "security.capability", capability)
    with opened(place) as store:
        if how == "rework":
            with store.rework("x.img") as draft:
                draft.write_at(0, b"new")
                draft.publish(overwrite=False)
            made = path
        else:
            made = place / replace(store, how)
    assert mode(made) == 0o750
    assert "security.capability" not in beside(made)
    assert (made.stat().st_uid, made.stat().st_gid) == (BOB, OTHER)
    if how == "like":
        assert mode(path) == 0o6750


def test_an_access_list_that_the_directory_gives_is_not_added_to_what_had_none(
    place: Path,
) -> None:
    path = place / "x.img"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.setxattr(place, LIST_OF_NEW, access_list(7, 7, 7, 7, 0))
    with opened(place) as store, store.draft("x.img", 10) as draft:
        draft.publish(overwrite=True)
    assert LIST not in beside(path)
    assert mode(path) == 0o640


@pytest.mark.parametrize("configured", [0o600, 0o640, 0o660])
def test_a_new_image_has_the_directorys_access_list_within_the_configured_mode(
    place: Path, configured: int
) -> None:
    os.setxattr(place, LIST_OF_NEW, access_list(7, 6, 5, 7, 0))
    with opened(place, NewFiles(mode=configured)) as store, store.draft("x.img", 10) as draft:
        partial = place / f"x.img{PARTIAL_SUFFIX}"
        assert mode(partial) == 0o600  # the mask is the group's: nobody but its maker reads it
        draft.publish(overwrite=False)
    made = place / "x.img"
    assert mode(made) == configured
    assert beside(made)[LIST] == access_list(6, 6, 5, configured >> 3 & 7, 0)


def test_who_could_read_a_leftover_cannot_read_what_is_made_of_it(place: Path) -> None:
    partial = place / f"x.img{PARTIAL_SUFFIX}"
    partial.write_bytes(b"left")
    os.setxattr(partial, LIST, access_list(6, 4, 4, 4, 4))
    os.setxattr(partial, "user.note", b"of something else")
    with opened(place, NewFiles(mode=0o640)) as store, store.draft("x.img", 10) as draft:
        assert mode(partial) == 0o600
        draft.publish(overwrite=False)
    assert not {LIST, "user.note"} & set(beside(place / "x.img"))
    assert mode(place / "x.img") == 0o640


@AS_ROOT
@pytest.mark.parametrize("how", ["overwrite", "like"])
def test_at_no_moment_may_more_people_read_what_replaces_an_image(
    place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Each call that changes who may read it, and what may be read after it."""
    path = image(place)
    os.chown(path, BOB, OTHER)
    os.setxattr(place, LIST_OF_NEW, access_list(7, 7, 7, 7, 7))
    seen: list[tuple[int, int]] = []

    def watched(name: str) -> None:
        real: Callable[..., None] = getattr(os, name)

        def call(fd: int, *rest: object, **named: object) -> None:
            real(fd, *rest, **named)
            status = os.fstat(fd)
            seen.append((stat.S_IMODE(status.st_mode), status.st_uid))

        monkeypatch.setattr(os, name, call)

    for name in ("fchown", "fchmod", "setxattr", "removexattr"):
        watched(name)
    with opened(place) as store:
        replace(store, how)
    assert seen
    assert {mode for mode, _ in seen} <= {0o600, 0o640}
    assert all(uid == BOB for mode, uid in seen if mode == 0o640)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@AS_ROOT
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (None, b"", r"uid 4712 .* uid 4711"),
        ("security.note", b"label", "attribute security.note"),
    ],
)
def test_who_may_not_set_them_is_told_before_data_moves(
    place: Path, name: str | None, value: bytes, told: str
) -> None:
    path = place / "x.img"
    path.write_bytes(b"old")
    path.chmod(0o644)
    os.chown(place, BOB, BOB)
    os.chown(path, OTHER if name is None else BOB, BOB)
    if name:
        os.setxattr(path, name, value)
    with opened(place) as store, as_user(BOB):
        for like in (None, "x.img"):
            with pytest.raises(Denied, match=told):
                store.require_attributes("x.img" if like is None else "y.img", like)
        store.require_attributes("z.img")
    assert [each.name for each in place.iterdir()] == ["x.img"]


@AS_ROOT
@pytest.mark.parametrize(("flag", "word"), [("i", "immutable"), ("a", "append-only")])
def test_what_somebody_locked_is_neither_replaced_nor_removed_nor_changed(
    place: Path, flag: str, word: str
) -> None:
    path = image(place)
    try:
        subprocess.run(["chattr", f"+{flag}", path], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no such flag on this file system: {error.stderr!r}")
    try:
        with opened(place) as store:
            for change in (
                store.require_attributes,
                store.remove,
                store.rework,
                lambda name: store.grow(name, 4096),
                lambda name: store.shrink(name, 1),
            ):
                with pytest.raises(Denied, match=f"{word}.*chattr -{flag}"):
                    change("x.img")
            store.require_attributes("x.img.zst", "x.img")  # beside it there may be another
    finally:
        subprocess.run(["chattr", f"-{flag}", path], check=True)
    assert path.read_bytes() == b"old"


def test_flags_that_say_how_a_file_is_treated_go_along(place: Path) -> None:
    path = image(place)
    if subprocess.run(["chattr", "+dA", path], capture_output=True).returncode:
        pytest.skip("no such flags on this file system")
    with opened(place) as store:
        made = place / replace(store, "like")
        replace(store, "overwrite")
    for file in (path, made):
        assert {"d", "A"} <= flags(file)


def flags(path: Path) -> set[str]:
    told = subprocess.run(["lsattr", path], check=True, capture_output=True, text=True).stdout
    return set(told.split()[0]) - {"-"}


def test_a_file_system_without_attributes_has_nothing_to_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "cannot")

    for name in ("listxattr", "getxattr", "setxattr", "removexattr"):
        monkeypatch.setattr(os, name, cannot)
    monkeypatch.setattr(fcntl, "ioctl", cannot)
    (tmp_path / "x.img").write_bytes(b"old")
    (tmp_path / "x.img").chmod(0o640)
    with opened(tmp_path) as store:
        store.require_attributes("x.img")
        replace(store, "overwrite")
    assert mode(tmp_path / "x.img") == 0o640


@AS_ROOT
def test_on_btrfs_an_image_stays_exempt_from_copy_on_write_and_so_does_its_snapshot(
    places: Callable[[str], Path],
) -> None:
    with tempfile.TemporaryDirectory(dir=places("btrfs")) as made, opened(Path(made)) as store:
        path = Path(made) / "x.img"
        path.touch()
        subprocess.run(["chattr", "+C", path], check=True)
        path.write_bytes(b"old" * 5000)
        store.snapshot("x.img", "s.img", None)
        with store.frozen("x.img") as frozen:
            assert frozen.read_at(0, 3) == b"old"
        replace(store, "overwrite")
        for name in ("x.img", "s.img"):
            assert "C" in flags(Path(made) / name)
        assert (Path(made) / "s.img").read_bytes() == b"old" * 5000


@AS_ROOT
def test_a_snapshot_is_for_whom_its_image_is(places: Callable[[str], Path]) -> None:
    with tempfile.TemporaryDirectory(dir=places("xfs")) as made:
        path = image(Path(made))
        os.chown(path, BOB, OTHER)
        with opened(Path(made), NewFiles(mode=0o644)) as store:
            store.snapshot("x.img", "s.img", None)
        status = (Path(made) / "s.img").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (BOB, OTHER, 0o640)
        assert beside(Path(made) / "s.img") == beside(path)
