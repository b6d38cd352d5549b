"""What a confined tool sees of the host, as words for bubblewrap's command line.

Programs and libraries, read-only; a /dev and a /tmp of its own; no other process, no network but
where it needs one, and no image but what it inherits as a descriptor. Where the agent is root, so
is the tool, in the kernel's eyes: /proc/sys, in which root changes the host, is read-only.
Sources: bwrap(1), proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

#: Links into /usr on a merged system, directories of their own elsewhere.
_TOPS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def system() -> list[str]:
    """The words that give a tool the host's programs."""
    return [
        *("--ro-bind", "/usr", "/usr"),
        *(word for top in _TOPS if os.path.lexists(top) for word in _mirror(top)),
        *("--dev", "/dev"),
        *("--proc", "/proc"),
        *("--ro-bind", "/proc/sys", "/proc/sys"),
        *("--tmpfs", "/tmp"),
        *("--chdir", "/"),
    ]


def namespaces(
    users: Sequence[int], *, administers: bool = False, network: bool = False
) -> list[str]:
    """The words that give a tool namespaces of its own. `users`: the descriptor of one of users
    that is there already, if any (user_namespace.py), and maybe of one within, which it is to be
    in. `administers`: it may mount what it likes, in its own namespace, where it is root.
    `network`: it has the host's network."""
    mounting = ("--cap-add", "CAP_SYS_ADMIN") if administers else ()
    if not users:
        root = ("--uid", "0", "--gid", "0") if administers else ()
        shared = ("--share-net",) if network else ()
        return ["--unshare-all", *shared, "--cap-drop", "ALL", *root, *mounting]
    return [
        *("--userns", str(users[0])),
        *(word for fd in users[1:] for word in ("--userns2", str(fd))),
        *("--cap-drop", "ALL", "--cap-add", "CAP_DAC_OVERRIDE", *mounting),
        *("--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if network else ("--unshare-net",)),
    ]


def namesake(fd: int) -> tuple[str, ...]:
    """Something harmless, a directory, that has the name which the descriptor has outside."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    return () if name.startswith("/usr/") else ("--dir", name)


def file_server(mount_point: str, empty: int) -> list[str]:
    """The words that let a tool which administers its namespaces mount a file of its own by FUSE
    (fuse(4)), upon `mount_point`. `empty`: a descriptor that is at its end."""
    return [
        *("--dev-bind", "/dev/fuse", "/dev/fuse"),
        *("--tmpfs", os.path.dirname(mount_point)),
        *("--file", str(empty), mount_point),
    ]


def files(shown: Sequence[tuple[int, str]]) -> list[str]:
    """The words that show a tool copies of what descriptors have, by these paths; only it can read
    them."""
    each = (("--perms", "0400", "--file", str(fd), path) for fd, path in shown)
    return [word for words in each for word in words]


def _mirror(top: str) -> tuple[str, ...]:
    if os.path.islink(top):
        return ("--symlink", os.readlink(top), top)
    return ("--ro-bind", top, top)
