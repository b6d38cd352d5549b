"""Adds a line for one key to this user's authorized_keys, once.

Source: sshd(8), "AUTHORIZED_KEYS FILE FORMAT"; the checks are those of `StrictModes` in
sshd_config(5), without which sshd would not read the file.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple

from virtstore.bare_host.places import (
    Refused,
    own_home,
    refuse_others_places,
    sync_directory,
    write_beside,
)

#: No authorized_keys is longer.
_MOST = 4 << 20


class _Found(NamedTuple):
    """What a file holds, and by what it is seen that it is still that file."""

    text: str
    mode: int
    state: tuple[int, ...]


def file_of_keys() -> str:
    return f"{own_home()}/.ssh/authorized_keys"


def authorize(line: str, key: str, *, dry_run: bool) -> bool:
    """Have `line`, which is about `key` (the base64 of a public key), in the file. Returns whether
    it was not yet. Raises `Refused`."""
    path = file_of_keys()
    directory = os.path.dirname(path)
    _refuse_others_links(directory)
    _refuse_others_links(path)
    real = os.path.realpath(path)
    refuse_others_places(os.path.dirname(real))
    found = _read(real)
    options = line[: line.index(key)]
    for there in found.text.split("\n"):
        words = there.split()
        if key in words and not there.lstrip().startswith("#"):
            if there.lstrip().startswith(options + key):
                return False
            raise Refused(
                "exists",
                f"that key is there already, with another line; remove that first:\n{there}",
                path,
            )
    if not dry_run:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        gap = "\n" if found.text and not found.text.endswith("\n") else ""
        _replace(real, f"{found.text}{gap}{line}\n", found)
    return True


def _refuse_others_links(path: str) -> None:
    """Raises `Refused` where `path` is a link that somebody else made."""
    for _ in range(40):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(status.st_mode):
            return
        if status.st_uid not in (0, os.geteuid()):
            raise Refused("unsafe", "it is a link that another user made; remove it", path)
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise Refused("unsafe", "its links lead nowhere; remove it", path)


def _read(real: str) -> _Found:
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return _Found("", 0o600, ())
    with open(fd, "rb") as stream:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST:
            raise Refused("unsafe", "it is no list of keys", real)
        if status.st_uid not in (0, os.geteuid()):
            raise Refused("unsafe", "it belongs to another user", real)
        text = stream.read().decode("utf-8", "surrogateescape")
    return _Found(text, stat.S_IMODE(status.st_mode), _state(status))


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _replace(real: str, text: str, found: _Found) -> None:
    new = write_beside(real, text, found.mode)
    try:
        now: tuple[int, ...] = ()
        with suppress(FileNotFoundError):
            now = _state(os.stat(real, follow_symlinks=False))
        if now != found.state:
            raise Refused("in-use", "somebody else changed it at this moment; try again", real)
        os.replace(new, real)
    except BaseException:
        os.unlink(new)
        raise
    sync_directory(os.path.dirname(real))
