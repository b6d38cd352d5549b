"""Final names are given and taken without replacing anything, also where the file system has no
rename that sees to that, whatever moment a crash comes at."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from virtstore import linux
from virtstore.agent.policy import refuse_odd
from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, Displaced
from virtstore.backends.files import final_names
from virtstore.backends.files.directory import Directory
from virtstore.backends.files.file import FileDraft
from virtstore.backends.files.final_names import PUBLISH_SUFFIX, RENAMED_SUFFIX, RETURN_SUFFIX
from virtstore.errors import Denied, InUse, Unsupported

PARTIAL = f"x.img{PARTIAL_SUFFIX}"
REWORKED = f"x.img{REWORK_SUFFIX}"
PUBLISHING = f"x.img{PUBLISH_SUFFIX}"
REWORKED = f"x.img{REWORK_SUFFIX}"
RETURNING = f"x.img{RETURN_SUFFIX}"
RENAMING = f"x.img{RENAMED_SUFFIX}"


class Killed(BaseException):
    """The agent ends here."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """A directory whose file system renames without replacing only where nothing says so."""

    def cannot(directory: int, old: str, new: str) -> None:
        os.stat(old, dir_fd=directory)
        raise OSError(errno.EINVAL, "Invalid argument", new)

    monkeypatch.setattr(linux, "rename_noreplace", cannot)
    made = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield made
    made.close()


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", cannot)


def draft(store: Directory, contents: bytes = b"new", *, overwrite: bool = False) -> None:
    with store.draft("x.img", 3) as made:
        made.write_at(0, contents)
        made.publish(overwrite=overwrite)


def files(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def listed(store: Directory) -> set[tuple[str, str]]:
    return {(each.name, each.state) for each in store.scan()}


def test_a_new_image_gets_its_name_and_no_other(store: Directory, tmp_path: Path) -> None:
    draft(store)
    assert files(tmp_path) == {"x.img": b"new"}
    assert (tmp_path / "x.img").stat().st_nlink == 1


def test_a_name_that_is_taken_meanwhile_is_not_replaced_and_the_draft_stays(
    store: Directory, tmp_path: Path
) -> None:
    with store.draft("x.img", 3) as made:
        made.write_at(0, b"new")
        (tmp_path / "x.img").write_bytes(b"somebody's")
        with pytest.raises(FileExistsError):
            made.publish(overwrite=False)
        assert made.whole
    assert files(tmp_path) == {"x.img": b"somebody's", PARTIAL: b"new"}
    draft(store, overwrite=True)
    assert files(tmp_path) == {"x.img": b"new"}


def test_an_answer_that_nfs_lost_is_no_other_image(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(old: str, new: str, **where: object) -> None:
        link(old, new, **where)  # type: ignore[arg-type]
        link(old, new, **where)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link_twice)
    draft(store)
    assert files(tmp_path) == {"x.img": b"new"}


@pytest.mark.parametrize(
    ("call", "times", "left"),
    [
        ("rename", 1, {PARTIAL}),
        ("fsync", 1, {"x.img", PUBLISHING}),  # of the directory, behind the link
        ("unlink", 1, {"x.img", PUBLISHING}),
        ("fsync", 2, {"x.img"}),
    ],
)
def test_whoever_is_killed_while_it_publishes_leaves_old_or_new(
    store: Directory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    times: int,
    left: set[str],
) -> None:
    with store.draft("x.img", 3) as made:
        assert isinstance(made, FileDraft)
        made.write_at(0, b"new")
        made.finish()
        with monkeypatch.context() as patched:
            _kill_before(patched, call, times)
            with pytest.raises(Killed):
                final_names.give(store._fd, "x.img", made.descriptor)
    assert set(files(tmp_path)) == left
    require_mended(store, tmp_path, "complete" if "x.img" in left else "partial")


def test_a_whole_draft_that_had_no_name_yet_is_partial_again(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / PUBLISHING).write_bytes(b"new")
    require_mended(store, tmp_path, "partial")


def require_mended(store: Directory, tmp_path: Path, state: str) -> None:
    """It is one image, before and after it is mended, and can be replaced."""
    assert listed(store) == {("x.img", state)}
    found = store.find("x.img")
    assert found
    assert found.state == state
    with store.open("x.img", partial=state == "partial") as image:
        assert image.read_at(0, 9) == b"new"
    for name in store.interrupted():
        store.mend(name)
    assert files(tmp_path) == {"x.img" if state == "complete" else PARTIAL: b"new"}
    draft(store, b"old", overwrite=True)
    assert files(tmp_path) == {"x.img": b"old"}


def _kill_before(monkeypatch: pytest.MonkeyPatch, call: str, times: int) -> None:
    real, left = getattr(os, call), [times]

    def counting(*arguments: object, **where: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return real(*arguments, **where)

    monkeypatch.setattr(os, call, counting)


def test_a_published_image_is_never_built_upon_by_its_other_name(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / PUBLISHING).write_bytes(b"published")
    os.link(tmp_path / PUBLISHING, tmp_path / "x.img")
    with store.draft("x.img", 3) as made:  # as if nobody had mended it
        made.write_at(0, b"new")
    assert (tmp_path / "x.img").read_bytes() == b"published"
    store.mend("x.img")
    assert (tmp_path / "x.img").read_bytes() == b"published"


def test_an_image_loses_its_name_and_gets_it_back(store: Directory, tmp_path: Path) -> None:
    draft(store)
    with store.rework("x.img") as image:
        image.write_at(0, b"N")
        assert files(tmp_path) == {REWORKED: b"New"}
        image.publish(overwrite=False)
    assert files(tmp_path) == {"x.img": b"New"}


@pytest.mark.parametrize(
    ("call", "times", "left"),
    [
        ("link", 1, {RETURNING}),
        ("fsync", 1, {"x.img", RETURNING}),  # of the directory, behind the link
        ("unlink", 1, {"x.img", RETURNING}),
    ],
)
def test_an_image_on_its_way_back_to_its_name_never_becomes_a_draft(
    store: Directory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    times: int,
    left: set[str],
) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    with store.rework("x.img") as image:
        image.write_at(0, b"new")
        image.finish()
        with monkeypatch.context() as patched:
            _kill_before(patched, call, times)
            # The move back is what whoever is killed does not get to.
            patched.setattr(final_names, "_rename", _once(final_names._rename))
            assert isinstance(image, FileDraft)
            with pytest.raises(Killed):
                final_names.give(store._fd, "x.img", image.descriptor, REWORK_SUFFIX)
    assert set(files(tmp_path)) == left
    for mended in (False, True):
        found = store.find("x.img")
        assert found
        complete = "x.img" in left
        assert (found.state, found.was_image) == (
            ("complete", "no") if complete else ("partial", "yes")
        )
        assert [each.was_image for each in store.scan()] == [found.was_image]
        if not mended:
            assert store.interrupted() == ["x.img"]
            store.mend("x.img")
    assert files(tmp_path) == {"x.img" if complete else REWORKED: b"new"}
    store.discard("x.img")  # as whoever makes a new one does
    assert files(tmp_path) == {"x.img" if complete else REWORKED: b"new"}


def test_an_image_that_another_took_the_name_of_meanwhile_is_kept(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / RETURNING).write_bytes(b"all that there is")
    (tmp_path / "x.img").write_bytes(b"another")
    assert listed(store) == {("x.img", "complete"), ("x.img", "partial")}
    store.mend("x.img")
    assert files(tmp_path) == {"x.img": b"another", REWORKED: b"all that there is"}


def _once(rename: Callable[[int, str, str], None]) -> Callable[[int, str, str], None]:
    calls: list[str] = []

    def renaming(directory: int, old: str, new: str) -> None:
        calls.append(old)
        if len(calls) > 1:
            raise Killed
        rename(directory, old, new)

    return renaming


def _killed(directory: int, old: str, new: str) -> None:
    raise Killed


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("there", [b"another", None])
def test_what_was_put_in_an_images_place_before_it_changed_is_left_alone(
    store: Directory, tmp_path: Path, there: bytes | None, writes: bool
) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    with store.rework("x.img") as image:
        (tmp_path / "x.img").unlink()
        if there:
            (tmp_path / "x.img").write_bytes(there)
        with pytest.raises(InUse, match="in its place"):
            image.write_at(0, b"new") if writes else image.publish(overwrite=False)
    assert files(tmp_path) == ({"x.img": there} if there else {})


def test_an_image_does_not_lose_its_name_to_a_partial_one(store: Directory, tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(b"old")
    (tmp_path / PARTIAL).write_bytes(b"partial")
    with pytest.raises(FileExistsError):
        final_names.take(store._fd, "x.img")
    assert files(tmp_path) == {"x.img": b"old", PARTIAL: b"partial"}


def test_where_there_are_no_hard_links_nothing_new_is_begun(
    store: Directory, tmp_path: Path, no_links: None
) -> None:
    with pytest.raises(Unsupported, match="copy --overwrite"):
        store.require_new_names()
    (tmp_path / "x.img").write_bytes(b"old")
    with pytest.raises(Unsupported):
        store.rework("x.img")
    assert files(tmp_path) == {"x.img": b"old"}
    draft(store, overwrite=True)
    assert files(tmp_path) == {"x.img": b"new"}


def test_where_a_hard_link_fails_after_all_the_draft_stays(
    store: Directory, tmp_path: Path, no_links: None
) -> None:
    with store.draft("x.img", 3) as made, pytest.raises(Unsupported):
        made.publish(overwrite=False)
    assert files(tmp_path) == {PARTIAL: bytes(3)}


def test_a_directory_that_cannot_be_flushed_is_flushed_with_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []

    def cannot(fd: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", cannot)
    monkeypatch.setattr(linux, "sync_filesystem", flushed.append)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    final_names.flush(directory)
    assert flushed == [directory]
    os.close(directory)


def test_a_directory_that_fails_to_be_flushed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(OSError, match="Input/output"):
        final_names.flush(directory)
    os.close(directory)


@pytest.mark.parametrize(("number", "told"), [(errno.EIO, True), (errno.ENOSYS, False)])
def test_a_file_system_that_fails_to_be_flushed_for_its_directory_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    def raising(error: int) -> Callable[[int], None]:
        def call(fd: int) -> None:
            raise OSError(error, os.strerror(error))

        return call

    monkeypatch.setattr(os, "fsync", raising(errno.EINVAL))
    monkeypatch.setattr(linux, "sync_filesystem", raising(number))
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(OSError, match="Input/output") if told else nullcontext():
        final_names.flush(directory)
    os.close(directory)


@pytest.mark.parametrize("kind", [errno.EOPNOTSUPP, errno.EISDIR])
def test_a_file_without_a_name_has_one_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    real = os.open

    def opened(path: str, flags: int, *rest: int, **where: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(kind, "cannot")
        return real(path, flags, *rest, **where)

    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    monkeypatch.setattr(os, "open", opened)
    fd = final_names.nameless(directory)
    assert os.listdir(tmp_path) == []
    os.write(fd, b"data")
    assert os.pread(fd, 9, 0) == b"data"
    os.close(fd)
    os.close(directory)


@pytest.mark.parametrize(
    "file",
    [".fuse_hidden0000000300000002", ".nfs000000000a1b2c3d00000001", ".virtstore-0123456789abcdef"],
)
def test_what_is_nobodys_image_is_not_listed(store: Directory, tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"removed, and open somewhere")
    (tmp_path / ".nfs").write_bytes(b"an image")
    assert listed(store) == {(".nfs", "complete")}


def test_a_draft_that_somebody_is_writing_on_another_host_is_not_discarded(
    store: Directory, tmp_path: Path
) -> None:
    """Locks of images are a host's own; the draft's is the file's."""
    with store.draft("x.img", 3) as made:
        with pytest.raises(InUse, match="another virtstore operation"):
            store.discard("x.img")
        made.write_at(0, b"new")
        made.publish(overwrite=False)
    assert files(tmp_path) == {"x.img": b"new"}


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_put_in_a_drafts_place_is_not_published_for_it(
    store: Directory, tmp_path: Path, overwrite: bool, replaced: bool
) -> None:
    (tmp_path / "y.img").write_bytes(b"old")
    with store.draft("x.img", 3) as made:
        made.write_at(0, b"new")
        (tmp_path / PARTIAL).unlink()
        if replaced:
            (tmp_path / PARTIAL).write_bytes(b"half of another's")
        with pytest.raises(Displaced):
            made.publish(overwrite=overwrite)
    left = {PARTIAL: b"half of another's"} if replaced else {}
    assert files(tmp_path) == {"y.img": b"old", **left}


@pytest.mark.parametrize("name", [PUBLISHING, RETURNING])
def test_no_image_is_called_like_one_that_is_being_published(name: str) -> None:
    with pytest.raises(Denied, match=name.removeprefix("x.img")):
        refuse_odd(f"/srv/{name}")


def test_an_image_is_renamed_by_a_link_and_has_one_name(store: Directory, tmp_path: Path) -> None:
    (tmp_path / "old.img").write_bytes(b"new")
    store.rename("old.img", "x.img")
    assert files(tmp_path) == {"x.img": b"new"}
    assert (tmp_path / "x.img").stat().st_nlink == 1


def test_a_renamed_image_that_finds_its_new_name_taken_has_its_own_back(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / "old.img").write_bytes(b"new")
    (tmp_path / "x.img").write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        store.rename("old.img", "x.img")
    assert files(tmp_path) == {"old.img": b"new", "x.img": b"somebody's"}


def test_what_is_left_of_another_image_under_the_name_between_is_not_replaced(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / "old.img").write_bytes(b"new")
    (tmp_path / RENAMING).write_bytes(b"another's only copy")
    with pytest.raises(FileExistsError):
        store.rename("old.img", "x.img")
    assert files(tmp_path) == {"old.img": b"new", RENAMING: b"another's only copy"}


def test_a_disk_that_fails_behind_the_new_name_gives_no_image_two_names(
    store: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.img").write_bytes(b"new")
    with monkeypatch.context() as patched:
        flushes = iter(range(10))

        def fails(fd: int) -> None:
            if next(flushes) == 1:  # behind the link
                raise OSError(errno.EIO, "Input/output error")

        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            store.rename("old.img", "x.img")
    assert set(files(tmp_path)) == {"x.img", RENAMING}
    for each in store.interrupted():
        store.mend(each)
    assert files(tmp_path) == {"x.img": b"new"}


@pytest.mark.parametrize(
    ("call", "times", "left"),
    [
        ("rename", 1, {"old.img"}),
        ("link", 1, {RENAMING}),
        ("fsync", 2, {"x.img", RENAMING}),  # of the directory, behind the link
        ("unlink", 1, {"x.img", RENAMING}),
        ("fsync", 3, {"x.img"}),
    ],
)
def test_whoever_is_killed_while_it_renames_leaves_one_whole_image(
    store: Directory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    times: int,
    left: set[str],
) -> None:
    (tmp_path / "old.img").write_bytes(b"new")
    with monkeypatch.context() as patched:
        _kill_before(patched, call, times)
        # The move back is what whoever is killed does not get to.
        patched.setattr(final_names, "_move_new", _killed)
        with pytest.raises(Killed):
            store.rename("old.img", "x.img")
    assert set(files(tmp_path)) == left
    name = "old.img" if left == {"old.img"} else "x.img"
    assert listed(store) == {(name, "partial" if left == {RENAMING} else "complete")}
    for each in store.interrupted():
        store.mend(each)
    assert files(tmp_path) == {name: b"new"}
    assert listed(store) == {(name, "complete")}


def test_what_was_being_renamed_is_kept_where_somebody_took_its_new_name(
    store: Directory, tmp_path: Path
) -> None:
    (tmp_path / RENAMING).write_bytes(b"ours, and longer")
    (tmp_path / "x.img").write_bytes(b"somebody's")
    for name in store.interrupted():
        store.mend(name)
    assert files(tmp_path) == {"x.img": b"somebody's", REWORKED: b"ours, and longer"}


def test_an_empty_file_that_a_kill_left_of_what_was_tried_goes_once_it_is_old(
    store: Directory, tmp_path: Path
) -> None:
    old, young, full = (f".virtstore-{n * 16}" for n in "abc")
    for name, contents in ((old, b""), (f"{old}0", b""), (young, b""), (full, b"somebody's")):
        (tmp_path / name).write_bytes(contents)
        if name != young:
            os.utime(tmp_path / name, (0, 0))
    (tmp_path / f"{old}1").touch()  # no name of ours
    os.utime(tmp_path / f"{old}1", (0, 0))
    assert store.interrupted() == [old, f"{old}0"]
    for name in (old, f"{old}0", young, full):
        store.mend(name)
    assert set(files(tmp_path)) == {young, full, f"{old}1"}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("suffix", [PUBLISH_SUFFIX, RETURN_SUFFIX, RENAMED_SUFFIX])
def test_what_is_called_like_an_image_on_its_way_and_is_no_file_is_left_alone(
    store: Directory, tmp_path: Path, suffix: str, beside: bool
) -> None:
    (tmp_path / f"directory{suffix}").mkdir()
    (tmp_path / f"link{suffix}").symlink_to("elsewhere")
    (tmp_path / suffix).write_bytes(b"the suffix alone")
    for name in ("directory", "link") if beside else ():
        (tmp_path / name).write_bytes(b"an image")
    before = {each.name for each in tmp_path.iterdir()}
    assert store.interrupted() == []
    for name in ("directory", "link", ""):
        assert not store.is_interrupted(name)
        store.mend(name)
    assert {each.name for each in tmp_path.iterdir()} == before
    assert {each.name for each in store.scan()} == before


def test_an_image_with_the_longest_name_is_mended(store: Directory, tmp_path: Path) -> None:
    """Its names on the way back to its own are not all possible."""
    name = "x" * (255 - len(RETURN_SUFFIX))
    (tmp_path / f"{name}{RETURN_SUFFIX}").write_bytes(b"all that there is")
    for each in store.interrupted():
        store.mend(each)
    assert files(tmp_path) == {f"{name}{REWORK_SUFFIX}": b"all that there is"}
