"""A file of a directory gets its final name, and loses it, without replacing anything.

renameat2(RENAME_NOREPLACE) is one step. NFS, 9p and most file systems in user space have no such
thing; there a hard link does it, since link(2) replaces nothing either. Meanwhile the file has two
names, so it is called `NAME.virtstore-publish` before that, or `NAME.virtstore-return` if it was
an image before (`base.REWORK_SUFFIX`): by such a name nothing is ever written. What a crash leaves
there goes if there is a `NAME`, of which it is the other name, and is what it was before if there
is none (`mend`). Whether two names are one file is not asked: some file systems do not know. An
image that gets another name is called `NEW.virtstore-renamed` in between, and `mend` gives it that.

Where there are no hard links either, nothing new is made (`require_new`).

Sources: renameat2(2), link(2), open(2) under O_EXCL (on NFS), fsync(2).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Literal

from virtstore import linux
from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, Displaced
from virtstore.errors import Unsupported

#: What a whole draft's name ends with while it gets its final one. As long as PARTIAL_SUFFIX.
PUBLISH_SUFFIX: Final = ".virtstore-publish"

#: The same, of an image that was changed in place and gets its own name back.
RETURN_SUFFIX: Final = ".virtstore-return"

#: The same, of a whole image that had another name.
RENAMED_SUFFIX: Final = ".virtstore-renamed"

#: What a name ends with on its way to the final one, by what it ended with before.
_STEPS: Final = {PARTIAL_SUFFIX: PUBLISH_SUFFIX, REWORK_SUFFIX: RETURN_SUFFIX}
STEPS: Final = (*_STEPS.values(), RENAMED_SUFFIX)

#: How a new name can be given: in one step, by a hard link, or not at all.
Way = Literal["rename", "link"]

#: What the kernel says of a name that nothing has, or can have.
MISSING: Final = (errno.ENOENT, errno.ENAMETOOLONG)

#: What link(2) says where there are no hard links.
_NO_LINKS: Final = linux.CANNOT | {errno.EPERM, errno.EMLINK}

#: Files that things are tried on. They are empty, and there for some milliseconds.
_APART: Final = re.compile(r"\.virtstore-[0-9a-f]{16}0?")

#: Seconds after which nobody is at work on such a file any more. Whoever is, all the same, finds it
#: gone, and fails before anything was changed.
_LONG_AGO: Final = 60

#: These, and what FUSE and NFS call a removed file that somebody has open still.
_INTERNAL: Final = re.compile(
    rf"{_APART.pattern}|\.fuse_hidden[0-9a-f]{{16,32}}|\.nfs[0-9a-f]{{16,32}}"
)


def is_internal(file: str) -> bool:
    """Whether a file is one of virtstore's own, which no listing shows."""
    return _INTERNAL.fullmatch(file) is not None


def is_named(directory: int, file: str, fd: int) -> bool:
    """Whether the open file `fd` has this name, as far as the file system tells."""
    with suppress(FileNotFoundError):
        return _may_be_same(_status(directory, file), os.fstat(fd))
    return False


@contextmanager
def missing_suppressed() -> Iterator[None]:
    """Pass over the error that nothing has a name."""
    try:
        yield
    except OSError as error:
        if error.errno not in MISSING:
            raise


def exists(directory: int, name: str) -> bool:
    """Whether anything has that name."""
    try:
        _status(directory, name)
    except OSError as error:
        if error.errno not in MISSING:
            raise
        return False
    return True


def give(directory: int, name: str, fd: int, suffix: str = PARTIAL_SUFFIX) -> None:
    """Give the partial image `fd`, whose name is `name` and `suffix`, its final name, on the disk.
    Raises FileExistsError where the name is taken, and `Unsupported` where it cannot be given
    safely: the image stays partial. Raises `Displaced` where another file has the partial name."""
    _require_named(directory, name + suffix, fd)
    try:
        linux.rename_noreplace(directory, name + suffix, name)
    except OSError as error:
        if error.errno not in linux.CANNOT:
            raise
        _give_by_link(directory, name, fd, suffix)
    flush(directory)


def give_over(directory: int, name: str, fd: int) -> None:
    """The same, replacing whatever has that name."""
    _require_named(directory, name + PARTIAL_SUFFIX, fd)
    _rename(directory, name + PARTIAL_SUFFIX, name)
    flush(directory)


def change(directory: int, old: str, new: str) -> None:
    """Give an image another name, on the disk. Raises FileExistsError where that is taken."""
    try:
        linux.rename_noreplace(directory, old, new)
    except OSError as error:
        if error.errno not in linux.CANNOT:
            raise
        _change_by_link(directory, old, new)
    flush(directory)


def take(directory: int, name: str, suffix: str = PARTIAL_SUFFIX) -> None:
    """Take an image's final name away, on the disk: it is partial. Raises FileExistsError if there
    is a partial one already."""
    partial = name + suffix
    try:
        linux.rename_noreplace(directory, name, partial)
    except OSError as error:
        if error.errno not in linux.CANNOT:
            raise
        # Nobody but us has such names, and we have the image's lock.
        if exists(directory, partial):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), partial) from None
        _rename(directory, name, partial)
    flush(directory)


def interrupted(directory: int) -> list[str]:
    """The names of images that a crash left while they were given or lost a name, and of the empty
    files that it left of what was being tried."""
    with opened_anew(directory) as fd:
        files = os.listdir(fd)
    images = {_of_step(file) for file in files if _is_step(directory, file)}
    tried = {file for file in files if _APART.fullmatch(file) and _is_left(directory, file)}
    return sorted(images | tried)


def is_interrupted(directory: int, name: str) -> bool:
    """Whether `interrupted` tells of that image."""
    return any(_is_step(directory, name + suffix) for suffix in STEPS)


def mend(directory: int, name: str) -> None:
    """Leave such an image with one name, or nothing of such a file. The caller has the lock of that
    name."""
    if _APART.fullmatch(name):
        _remove_left(directory, name)
        return
    if _is_step(directory, name + RENAMED_SUFFIX):
        _finish_renaming(directory, name)
    for before, after in _STEPS.items():
        step = name + after
        if not _is_step(directory, step):
            continue
        with suppress(FileNotFoundError):  # it was mended since
            if _is_given(directory, name, step):
                os.unlink(step, dir_fd=directory)
            else:
                _rename(directory, step, name + before)
            flush(directory)


def _is_left(directory: int, file: str) -> bool:
    """Whether a file that has such a name is one, and nobody's any more."""
    try:
        found = _status(directory, file)
    except FileNotFoundError:
        return False
    empty = stat.S_ISREG(found.st_mode) and not found.st_size
    own = os.geteuid() in (0, found.st_uid)
    return empty and own and found.st_mtime < time.time() - _LONG_AGO


def _remove_left(directory: int, file: str) -> None:
    if _is_left(directory, file):
        with suppress(FileNotFoundError):  # by another agent
            os.unlink(file, dir_fd=directory)


def require_new(directory: int) -> None:
    """Raises `Unsupported` where no new name can be given without the danger of replacing what
    somebody else gives that name at the same moment."""
    if way_to_new(directory) is None:
        raise Unsupported(
            "this file system can neither rename a file without replacing another nor make hard"
            " links, so what is new here could replace what somebody else puts there meanwhile;"
            " use a directory on another file system, or, where nobody else does that,"
            " 'virtstore copy --overwrite'"
        )


def way_to_new(directory: int) -> Way | None:
    """The call by which a new name can be given here, found by trying; None where there is none."""
    with named_apart(directory) as one:
        other = one + "0"
        try:
            linux.rename_noreplace(directory, one, other)
        except OSError as error:
            if error.errno not in linux.CANNOT:
                raise
        else:
            os.unlink(other, dir_fd=directory)
            return "rename"
        try:
            _link(directory, one, other)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return None
        os.unlink(other, dir_fd=directory)
        return "link"


def is_other_name(directory: int, file: str) -> bool:
    """Whether a file under a name between two steps has its final name already."""
    return _is_step(directory, file) and _is_given(directory, _of_step(file), file)


def _is_step(directory: int, file: str) -> bool:
    """Whether a file has a name between two steps. A directory or a link of such a name, or what
    is called like the suffix alone, is somebody else's."""
    if file.endswith(STEPS) and file not in STEPS:
        with missing_suppressed():
            return stat.S_ISREG(_status(directory, file).st_mode)
    return False


def _of_step(file: str) -> str:
    return next(file.removesuffix(suffix) for suffix in STEPS if file.endswith(suffix))


def _is_given(directory: int, name: str, step: str) -> bool:
    """Whether `name` is there and may be the same file as `step`. Where `step` was an image, and is
    seen to be another file, it may be all that is left of that image."""
    if not exists(directory, name):
        return False
    if not step.endswith((RETURN_SUFFIX, RENAMED_SUFFIX)):
        return True
    return _may_be_same(_status(directory, name), _status(directory, step))


@contextmanager
def opened_anew(directory: int) -> Iterator[int]:
    """A descriptor to list a directory by, once: sshfs shows nothing a second time, and Btrfs what
    was there the first time."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def named_apart(directory: int) -> Iterator[str]:
    """The name of a new, empty file that no listing shows, and that is gone in the end."""
    name = _apart()
    os.close(_create(directory, name))
    try:
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


@contextmanager
def trial(directory: int) -> Iterator[int]:
    """A new, empty file to try things on, which no listing shows, and which is gone in the end."""
    with ExitStack() as stack:
        fd = _without_name(directory)
        if fd is None:  # a server may know an open file by its name only: so it keeps that
            name = stack.enter_context(named_apart(directory))
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        stack.callback(os.close, fd)
        yield fd


def nameless(directory: int) -> int:
    """A file without a name, which is gone when it is closed. Where there are no such files it
    has one for a moment."""
    fd = _without_name(directory)
    if fd is None:
        name = _apart()
        fd = _create(directory, name)
        os.unlink(name, dir_fd=directory)
    return fd


def _without_name(directory: int) -> int | None:
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{directory}", flags, 0o600)
    except OSError as error:
        if error.errno not in linux.CANNOT | {errno.EISDIR}:
            raise
    return None


def _apart() -> str:
    return f".virtstore-{secrets.token_hex(8)}"


def flush(directory: int) -> None:
    """Return when the directory's names are on the disk. Where a directory cannot be flushed, its
    file system is."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in linux.CANNOT:
            raise
        try:
            linux.sync_filesystem(directory)
        except OSError as failed:
            if failed.errno not in linux.CANNOT:
                raise


def _give_by_link(directory: int, name: str, fd: int, suffix: str) -> None:
    partial, step = name + suffix, name + _STEPS[suffix]
    _rename(directory, partial, step)
    try:
        _link_new(directory, step, name)
    except BaseException:
        _rename(directory, step, partial)
        raise
    _open_by(directory, name, fd)
    flush(directory)  # before the only name goes that is on the disk
    with suppress(OSError):  # it is published; `mend` sees to the rest
        os.unlink(step, dir_fd=directory)


def _change_by_link(directory: int, old: str, new: str) -> None:
    step = new + RENAMED_SUFFIX
    if exists(directory, step):  # it may be all that is left of another image
        raise FileExistsError(errno.EEXIST, "File exists", step)
    _rename(directory, old, step)
    flush(directory)  # it has one name at any moment
    try:
        _link_new(directory, step, new)
    except BaseException:
        with suppress(FileExistsError):  # somebody's new one; `mend` sees to ours
            _move_new(directory, step, old)
        raise
    # From here on it has its new name, and what fails is for `mend`: to go back would give it two.
    flush(directory)  # before the only name goes that is on the disk
    os.unlink(step, dir_fd=directory)


def _finish_renaming(directory: int, name: str) -> None:
    """Give an image the name that it was to have. If somebody else's file has that, the image is
    what is left of one."""
    step, left = name + RENAMED_SUFFIX, name + REWORK_SUFFIX
    if not exists(directory, name):
        _move_new(directory, step, name)
    elif _may_be_same(_status(directory, name), _status(directory, step)):
        os.unlink(step, dir_fd=directory)
    elif not exists(directory, left):
        _rename(directory, step, left)
    flush(directory)


def _move_new(directory: int, old: str, new: str) -> None:
    """Rename a file by means of a hard link, which replaces nothing."""
    _link_new(directory, old, new)
    flush(directory)  # before the only name goes that is on the disk
    os.unlink(old, dir_fd=directory)


def _open_by(directory: int, name: str, fd: int) -> None:
    """Open the file of the descriptor `fd` anew, by this name. Some servers know an open file by
    the name that it was opened by, and others keep that name for as long as it is open."""
    with suppress(OSError):  # it may not be ours to open any more
        again = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        os.dup2(again, fd, inheritable=False)
        os.close(again)


def _link_new(directory: int, old: str, new: str) -> None:
    try:
        _link(directory, old, new)
    except FileExistsError:
        # NFS may have asked its server twice, for want of the first answer.
        if not _same(directory, old, new):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        require_new(directory)
        raise


def _link(directory: int, old: str, new: str) -> None:
    os.link(old, new, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)


def _rename(directory: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)


def _create(directory: int, name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=directory)


def _require_named(directory: int, file: str, fd: int) -> None:
    """Raises `Displaced` where another file has that name, or none."""
    if not is_named(directory, file, fd):
        raise Displaced(
            "what was being made was removed or replaced before it was whole, by somebody who"
            " reaches this directory from another host or without virtstore; what has its name now"
            " was left alone"
        )


def _same(directory: int, one: str, other: str) -> bool:
    return os.path.samestat(_status(directory, one), _status(directory, other))


def _may_be_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two names may be one file's, also where the file system numbers each name."""
    like = [(status.st_size, status.st_mtime_ns) for status in (one, other)]
    return os.path.samestat(one, other) or like[0] == like[1]


def _status(directory: int, file: str) -> os.stat_result:
    return os.stat(file, dir_fd=directory, follow_symlinks=False)
