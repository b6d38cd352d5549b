"""LVM's commands that change something: one at a time on a host, and never cut short."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from virtstore import run
from virtstore.backends.lvm.report import CONFIG, missing_from
from virtstore.errors import Error, InUse, NoSpace

_LOCK_DIRECTORY: Final = "/run/virtstore"
_TIMEOUT: Final = 300
#: udev and its children hold a volume for a moment after it was made or written.
_TRIES: Final = 6

_BUSY: Final = re.compile(rb"in use|[Dd]evice or resource busy|is used by another device")
_FULL: Final = re.compile(rb"[Ii]nsufficient free space|[Ii]nsufficient suitable|not enough free")


def lvm(*command: str) -> None:
    """Run one LVM command to its end. Raises `NoSpace`, `InUse`, `Error` with what it said."""
    argv = ("lvm", *command[:1], "--yes", "--quiet", *CONFIG, *command[1:])
    for attempt in range(_TRIES):
        with _alone():
            said = run.run(argv, outlives_us=True, timeout=_TIMEOUT)
        if said.status == 0:
            return
        if not _BUSY.search(said.stderr) or attempt == _TRIES - 1:
            break
        time.sleep(0.2 * 2**attempt)
    _refuse_what_is_missing(said)
    if _FULL.search(said.stderr):
        raise NoSpace(f"the volume group has not enough room ({said.complaint})")
    if _BUSY.search(said.stderr):
        raise InUse(f"LVM says that it is in use ({said.complaint})")
    raise Error(f"lvm {command[0]} failed: {said.complaint}")


def _refuse_what_is_missing(said: run.Completed) -> None:
    """Raises `Error` where a command failed in a volume group that lacks a physical volume."""
    if missing := missing_from(said.stderr):
        raise Error(
            f"{missing}, and without it LVM refuses this ({said.complaint}); connect that disk"
            " again, or have LVM give up what lay on it: vgreduce(8), --removemissing"
        )


@contextmanager
def _alone() -> Iterator[None]:
    """LVM waits for its own locks without end and without telling; so we wait before it."""
    os.makedirs(_LOCK_DIRECTORY, mode=0o700, exist_ok=True)
    fd = os.open(f"{_LOCK_DIRECTORY}/lvm", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
