"""Where virtstore is put on a host: root's places or a user's own, which nobody else can write to.

LIBRARY/DIGEST/         a bundle: agent, client, bin; DIGEST is that of its contents
LIBRARY/current         a link to the one that counts
COMMANDS/virtstore      links to what is in LIBRARY/current/bin
COMMANDS/virtstore-agent
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

COMMANDS: Final = ("virtstore", "virtstore-agent")

_DIGEST: Final = re.compile(r"[0-9a-f]{32}")


class Refused(Exception):
    """Something is not done; `code` is one of those that users know (virtstore.errors)."""

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path


class Places(NamedTuple):
    """The directories of bundles and of commands, the configuration's file, and the directory of
    further ones where there is one."""

    library: str
    commands: str
    configuration: str
    more: str | None = None

    @property
    def current(self) -> str:
        return f"{self.library}/current"

    def tree(self, digest: str) -> str:
        return f"{self.library}/{digest}"

    def command(self, name: str) -> str:
        return f"{self.commands}/{name}"

    def leads_to(self, name: str) -> str:
        """What the link of a command says."""
        return f"{self.current}/bin/{name}"


def of_scope(scope: str) -> Places:
    """The places of `"root"`, or of the `"user"` who runs this."""
    if scope == "root":
        base = "/usr/local"
        etc = "/etc/virtstore"
        return Places(f"{base}/lib/virtstore", f"{base}/bin", f"{etc}/config.toml", f"{etc}/conf.d")
    home = own_home()
    local = f"{home}/.local"
    # Where an agent of that user looks that was started by ssh: no variable counts there.
    return Places(f"{local}/lib/virtstore", f"{local}/bin", f"{home}/.config/virtstore/config.toml")


def own_home() -> str:
    return pwd.getpwuid(os.geteuid()).pw_dir


def digest_in_use(places: Places) -> str:
    """The digest of the bundle that counts; "" where there is none."""
    with suppress(OSError):
        said = os.readlink(places.current)
        if _DIGEST.fullmatch(said) and os.path.isdir(places.tree(said)):
            return said
    return ""


def digests(places: Places) -> list[str]:
    """Those of all bundles that are there."""
    try:
        return sorted(name for name in os.listdir(places.library) if _DIGEST.fullmatch(name))
    except FileNotFoundError:
        return []


def is_linked(places: Places, name: str) -> bool:
    """Whether a command leads to the bundle that counts."""
    with suppress(OSError):
        return os.readlink(places.command(name)) == places.leads_to(name)
    return False


@contextmanager
def exclusive(places: Places) -> Iterator[None]:
    """Nobody else of this kind is at work there. Raises `Refused`."""
    refuse_others_places(places.library)
    refuse_others_places(places.commands)
    os.makedirs(places.library, mode=0o755, exist_ok=True)
    directory = os.open(places.library, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused(
            "in-use", "virtstore is being installed there by another; wait until that has ended"
        ) from None
    finally:
        os.close(directory)


def refuse_others_places(directory: str) -> None:
    """Raises `Refused` where somebody else than root and this user could put other files in the
    place of those at `directory`, which need not be there yet."""
    path = os.path.realpath(directory)
    while True:
        with suppress(FileNotFoundError):
            _refuse_others(path, os.stat(path))
        if path == "/":
            return
        path = os.path.dirname(path)


def _refuse_others(path: str, status: os.stat_result) -> None:
    quoted = shlex.quote(path)
    if status.st_uid not in (0, os.geteuid()):
        raise Refused(
            "unsafe",
            f"it belongs to user {status.st_uid}, who could replace what lies there; mend it"
            f" with: chown {os.geteuid()} {quoted}",
            path,
        )
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others and not status.st_mode & stat.S_ISVTX:  # sticky: what is there stays its owner's
        raise Refused(
            "unsafe",
            "others may write to it, and so could replace what lies there; mend it with: chmod"
            f" go-w {quoted}",
            path,
        )


def new_name(path: str) -> str:
    """A name beside `path` for what is to take its place; `left_over` knows it again."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name}.virtstore-new-{secrets.token_hex(8)}"


def left_over(directory: str) -> list[str]:
    """What an interrupted run left there."""
    with suppress(FileNotFoundError):
        return [f"{directory}/{n}" for n in os.listdir(directory) if ".virtstore-new-" in n]
    return []


def place_link(path: str, to: str) -> None:
    """Make `path` a link, in place of whatever is there, at one moment."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    os.symlink(to, new := new_name(path))
    os.replace(new, path)
    sync_directory(os.path.dirname(path))


def write_beside(path: str, text: str, mode: int) -> str:
    """The name of a new file beside `path`, written and flushed. There is none where that fails."""
    new = new_name(path)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
    except BaseException:
        os.unlink(new)
        raise
    return new


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
