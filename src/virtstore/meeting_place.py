"""Where the processes of one user meet on this machine, whatever their environment says and whether
or not somebody is logged in: a directory that only that user can write to, and that no other user
can keep from being made. So it is not /run/user. Locks are kept there, and what is running.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import Final

from virtstore.errors import Denied

_ROOTS: Final = "/run/virtstore"


def directories() -> list[str]:
    """The directories: one, as a rule."""
    user = os.geteuid()
    if user == 0:
        return [of_root(_ROOTS)]
    return of_user(user, "/run/lock" if os.access("/run/lock", os.W_OK) else "/tmp")


def of_root(path: str) -> str:
    """Nobody else can make anything beside it."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not _is_ours(path, 0):
        raise Denied(
            f"{path}, where locks are kept, is not a directory of root's alone; remove it: rm -r"
            f" {path}",
            path=path,
        )
    return path


def of_user(user: int, parent: str) -> list[str]:
    """The directories for locks in `parent` that belong to `user`; one is made where there is
    none. Any user can make directories in `parent`, but nobody can remove or rename another's.
    So the owner decides, and where another user has taken the name, a suffix is added. Two agents
    that start at the same time may make two directories. Each then finds both and holds its
    locks in both, so they have one in common."""
    name = f"virtstore-{user}"
    for new in (name, f"{name}-{secrets.token_hex(8)}"):
        if found := _found(user, parent, name):
            return found
        with suppress(FileExistsError):
            os.mkdir(f"{parent}/{new}", 0o700)
    if found := _found(user, parent, name):
        return found
    raise Denied(
        f"no directory for locks can be made in {parent}; root can make one: install -d -m 700 -o"
        f" {user} {parent}/{name}",
        path=parent,
    )


def _found(user: int, parent: str, name: str) -> list[str]:
    names = [each for each in os.listdir(parent) if each == name or each.startswith(f"{name}-")]
    return [path for path in (f"{parent}/{each}" for each in sorted(names)) if _is_ours(path, user)]


def _is_ours(path: str, user: int) -> bool:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != user:
        return False
    if status.st_mode & 0o022:  # it is ours: so it can be made ours alone
        os.chmod(path, 0o700)
    return True
