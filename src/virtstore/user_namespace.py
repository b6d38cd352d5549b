"""A user namespace in which root may open what it was lent, whoever's file that is.

A confined tool opens its image anew, by /proc/self/fd. In the namespace that bubblewrap makes
there is one user only, and a file of another, such as QEMU's, is closed even to root. In a
namespace that knows all users of this one, CAP_DAC_OVERRIDE opens it; nothing else is there to be
opened.

Sources: user_namespaces(7), capabilities(7). Host tools needed: util-linux (`unshare`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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


def _make() -> int:
    """A namespace is made by a process that enters it, and stays as long as it is open."""
    with subprocess.Popen(
        ["unshare", "--user", "cat"],
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
            _map_all(inside.pid, kind)
        return os.open(f"/proc/{inside.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _map_all(pid: int, kind: str) -> None:
    """Give every user, or group, of this namespace the same number in the process's."""
    with open(f"/proc/self/{kind}") as own:
        ranges = [line.split() for line in own]
    with open(f"/proc/{pid}/{kind}", "w") as file:  # at once, or it is refused
        file.write("".join(f"{first} {first} {count}\n" for first, _, count in ranges))


def _is_open_to_root(fd: int) -> bool:
    found = os.fstat(fd)
    return found.st_uid == 0 and found.st_mode & _READ_AND_WRITE == _READ_AND_WRITE
