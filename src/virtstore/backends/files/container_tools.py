"""qemu-img on a container that is an open descriptor: made, and checked.

It reads what a guest may have written, so it is confined, and given nothing but the descriptor. A
backing file is never opened: `"backing": null` says so, which only QEMU's JSON can say.

Sources: qemu-img(1), also for its exit statuses. Host tools needed: qemu-img (Debian: qemu-utils).
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from virtstore import run
from virtstore.errors import FREE_OR_CHOOSE, Corrupt, Error, InUse, NoSpace
from virtstore.exporter import LOCKED

#: Seconds. A check reads all tables: some hundred MiB of the largest images.
_CHECKING: Final = 3600.0
#: Exit statuses of `qemu-img check`.
_CLEAN, _CORRUPT, _LEAKS = 0, 2, 3
#: What it says, with status 1, of tables in which it cannot go on.
_TOO_DAMAGED: Final = "Check failed"


class Over(NamedTuple):
    """The image that a disk is to lie over: its path, and its format in QEMU's words."""

    path: str
    form: str


def make(fd: int, size: int, *, preallocate: bool = False, over: Over | None = None) -> None:
    """Make the empty file `fd` a qcow2 with a disk of `size` bytes, zeros, or what `over` has.
    `preallocate`: all of its space is reserved. Raises `NoSpace`."""
    options = "compat=1.1" + (",preallocation=falloc" if preallocate else "")
    file = f"/proc/self/fd/{fd}"
    laid = ["-u", "-b", over.path, "-F", over.form] if over else []
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *laid, file, str(size)]
    done = run.run(argv, pass_fds=[fd], confined=True, sets_length=True, timeout=_CHECKING)
    if done.status:
        if "No space left" in done.complaint:
            raise NoSpace(
                f"no room for a container of {size} bytes: {done.complaint}; {FREE_OR_CHOOSE}"
            )
        raise Error(f"qemu-img could not make a qcow2: {done.complaint}")


def check(fd: int, *, mend_leaks: bool = False) -> None:
    """Have the tables of the qcow2 `fd` checked. Clusters that nobody uses, as a crash leaves
    them, are no damage; they are given back with `mend_leaks`, for which `fd` is open for writing.
    Raises `Corrupt`, and `InUse` where a guest has it locked."""
    if not mend_leaks:
        _checked(fd, "-U")
    elif _checked(fd) == _LEAKS:  # mending writes, also to what it then finds damaged
        _checked(fd, "-r", "leaks")


def _checked(fd: int, *how: str) -> int:
    argv = ["qemu-img", "check", "-q", *how, _alone(fd)]
    done = run.run(argv, pass_fds=[fd], confined=True, timeout=_CHECKING)
    damaged = done.status == _CORRUPT or _TOO_DAMAGED in done.complaint
    if done.status not in (_CLEAN, _LEAKS) and not damaged:
        if all(word in done.stderr.decode("utf-8", "replace") for word in LOCKED):
            raise InUse(f"somebody else has it open, as QEMU's lock on it says ({done.complaint})")
        raise Error(f"`qemu-img check` could not look at it: {done.complaint}")
    if damaged:
        raise Corrupt(
            f"its tables are damaged, as `qemu-img check` found ({done.complaint}); restore it from"
            " a backup, or try `qemu-img check -r all` on a copy of the file"
        )
    return done.status


def _alone(fd: int) -> str:
    file = {"driver": "file", "filename": f"/proc/self/fd/{fd}"}
    return "json:" + json.dumps({"driver": "qcow2", "file": file, "backing": None})
