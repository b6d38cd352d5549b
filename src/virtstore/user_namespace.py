"""A user namespace in which root may open what it was lent, whoever's file that is.

A confined tool opens its image anew, by /proc/self/fd. In the namespace that bubblewrap makes
there is one user only, and a file of another, such as QEMU's, is closed even to root. In a
namespace that knows all users of this one, CAP_DAC_OVERRIDE opens it; nothing else is there to be
opened.

A tool that mounts could also take away what hides a part of /proc, in which root changes the host.
It cannot where its mounts are of another namespace than what was mounted for it: of one within.

Sources: user_namespaces(7), mount_namespaces(7) on locked mounts, capabilities(7). Host tools
needed: util-linux (`unshare`, `nsenter`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

_READ_AND_WRITE: Final = 0o600


def is_needed(fds: Sequence[int]) -> bool:
    """Whether root without capabilities could not open one of these files anew."""
    return os.geteuid() == 0 and not all(map(_is_open_to_root, fds))


@contextmanager
def made() -> Iterator[int | None]:
    """A descriptor on such a namespace; None where none can be made."""
    namespace = None
    with suppress(OSError):
        namespace = _make()
    try:
        yield namespace
    finally:
        if namespace is not None:
            os.close(namespace)


@contextmanager
def nested() -> Iterator[tuple[int, ...]]:
    """Descriptors on such a namespace, and on one within it; none where none can be made."""
    with ExitStack() as files:
        made: tuple[int, ...] = ()
        with suppress(OSError):
            files.callback(os.close, outer := _make())
            files.callback(os.close, inner := _make(outer))
            made = outer, inner
        yield made


def _make(outer: int | None = None) -> int:
    """A namespace is made by a process that enters it, and stays as long as it is open. `outer`:
    the one that it is made in."""
    enter, lent = _entering(outer)
    with subprocess.Popen(
        [*enter, "unshare", "--user", "cat"],
        pass_fds=lent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as inside:
        assert inside.stdin
        assert inside.stdout
        inside.stdin.write(b"?")
        if inside.stdout.read(1) != b"?":  # once it is cat it is in there
            raise OSError("unshare failed")
        for kind in ("uid_map", "gid_map"):
            _map_all(inside.pid, kind, outer)
        return os.open(f"/proc/{inside.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _entering(outer: int | None) -> tuple[Sequence[str], Sequence[int]]:
    """The words that have a command run in a namespace, and what it inherits for that."""
    if outer is None:
        return (), ()
    return ("nsenter", f"--user=/proc/self/fd/{outer}", "--"), (outer,)


def _map_all(pid: int, kind: str, outer: int | None) -> None:
    """Give every user, or group, of this namespace the same number in the process's. Only a process
    in the namespace `outer` may write that."""
    with open(f"/proc/self/{kind}") as own:
        ranges = [line.split() for line in own]
    told = "".join(f"{first} {first} {count}\n" for first, _, count in ranges)
    if outer is None:
        with open(f"/proc/{pid}/{kind}", "w") as file:  # at once, or it is refused
            file.write(told)
        return
    enter, lent = _entering(outer)
    done = subprocess.run(
        [*enter, "tee", f"/proc/{pid}/{kind}"],
        pass_fds=lent,
        input=told.encode(),
        capture_output=True,
    )
    if done.returncode:
        raise OSError("tee failed")


def _is_open_to_root(fd: int) -> bool:
    found = os.fstat(fd)
    return found.st_uid == 0 and found.st_mode & _READ_AND_WRITE == _READ_AND_WRITE
