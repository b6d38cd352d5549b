"""Which directories may be roots: those of the host's own, on a disk, that nobody else writes to.

A root was configured, so its administrator meant something by it; what is refused here would
harm the host (a file in /dev, a program in /usr/bin), lose the images (memory that a reboot
empties), or let somebody else exchange them. It is decided of the directory that was opened, by
every name that it has: a link or a bind mount is no way around.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

from virtstore import linux
from virtstore.errors import Denied, Error, NotFound
from virtstore.location import own_home, plain_path, within

#: The system's own directories, below which there may be one of images.
_SYSTEM: Final = (
    *("/", "/dev", "/home", "/media", "/opt", "/root", "/run", "/tmp", "/usr", "/usr/local"),
    *("/usr/share", "/usr/src", "/var", "/var/cache", "/var/home", "/var/lib", "/var/tmp"),
)
#: Those below which there is none, either.
_SYSTEM_TREES: Final = (
    *("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys"),
    *("/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec"),
    *("/usr/libx32", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin"),
    *("/root/.ssh", "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd", "/var/log", "/var/spool"),
)
#: File systems that are the kernel's own, as proc(5) names them; a file there is no image.
_KERNEL: Final = frozenset(
    (
        *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"),
        *(
            "efivarfs",
            "fusectl",
            "hugetlbfs",
            "mqueue",
            "nfsd",
            "nsfs",
            "proc",
            "pstore",
            "resctrl",
        ),
        *("rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"),
    )
)
#: File systems in memory.
MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class _Mount(NamedTuple):
    """A line of mountinfo: of the file system on `device`, `root` is mounted at `point`."""

    device: str
    root: str
    point: str
    kind: str


def refuse_unfit(root: str, fd: int, file: str, *, volatile: bool) -> None:
    """Raises `Denied` for an opened directory, configured as `root`, that may not be one. `file`:
    where it was, or would be, configured; `volatile`: a reboot may empty it."""
    mounts = _mounts()
    mount = mounts.get(_mount_of(fd))
    if mount and mount.kind in _KERNEL:
        raise Denied(
            f"it is on {mount.kind}, a file system of the kernel's own, where a file is no image;"
            " configure a directory on a disk",
            path=root,
        )
    path = os.readlink(f"/proc/self/fd/{fd}")
    for name in (path, *(_other_names(path, mount, mounts) if mount else ())):
        if why := no_place_for_images(name):
            raise Denied(
                f"it is no place for images: {why}. Configure a directory that is for them alone,"
                " such as /srv/images",
                path=root,
            )
    if mount and mount.kind in MEMORY and not volatile:
        raise Denied(
            f"it is on {mount.kind}, in this host's memory: a reboot takes every image there. If"
            f" that is meant, add this line to its [[directory]] in {file}:\n\nvolatile = true\n",
            path=root,
        )
    _refuse_shared(root, os.fstat(fd))


def no_place_for_images(path: str) -> str | None:
    """Why no root may be called so, or lie there; None where one may."""
    if path in _SYSTEM or path in _SYSTEM_TREES:
        return f"{path} is the system's own"
    for tree in _SYSTEM_TREES:
        if within(path, tree):
            return f"{tree}, with all that is in it, is the system's own"
    home = os.path.realpath(own_home())
    if path == home or within(path, f"{home}/.ssh"):
        return f"{home} is where the agent's own user has files and keys"
    return None


def refuse_unreachable(error: OSError, root: str, fd: int, inside: str) -> NoReturn:
    """Raises what is to be said of a directory `inside` the root that `fd` is."""
    path = plain_path(f"{root}/{inside}")
    match error.errno:
        case errno.ENOENT | errno.ENAMETOOLONG:
            there = plain_path(f"{root}/{_existing(fd, inside)}")
            make = "make it with mkdir on that host"
            if "~" in inside.split("/"):
                make = "write the whole path in place of '~', which only a shell replaces"
            raise NotFound(
                f"no such directory; of this path there is {there}, and virtstore makes no"
                f" directories: {make}",
                path=path,
            ) from None
        case errno.ENOTDIR:
            file = _existing(fd, inside)
            rest = inside.strip("/").removeprefix(file).strip("/")
            file = plain_path(f"{root}/{file}/{rest.partition('/')[0]}")
            told = f"{file} is no directory"
            if file == path:
                told = "it is a file, such as an image, and not a directory"
            raise NotFound(told, path=path) from None
        case errno.ELOOP:
            raise Denied("a symbolic link on the way is not followed", path=path) from None
        case errno.EXDEV:
            raise Denied(
                "another file system is mounted on the way; configure it as a root of its own",
                path=path,
            ) from None
        case errno.ENOSYS:
            raise Error("this host's kernel has no openat2 (Linux 5.6 or later is needed)")
    raise error


def _mounts() -> dict[str, _Mount]:
    """What is mounted, by the number of the mount (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        split = [line.split() for line in lines]
    return {
        f[0]: _Mount(f[2], _unescaped(f[3]), _unescaped(f[4]), f[f.index("-") + 1]) for f in split
    }


def _mount_of(fd: int) -> str:
    with open(f"/proc/self/fdinfo/{fd}") as facts:
        return next(line.split()[1] for line in facts if line.startswith("mnt_id:"))


def _other_names(path: str, mount: _Mount, mounts: dict[str, _Mount]) -> Iterator[str]:
    """By what names the same directory can be reached where its file system is mounted again."""
    inside = plain_path(f"{mount.root}/{path[len(mount.point) :]}")
    for other in mounts.values():
        if other.device == mount.device and within(inside, other.root):
            yield plain_path(f"{other.point}/{inside[len(other.root) :]}")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _refuse_shared(path: str, status: os.stat_result) -> None:
    """Raises `Denied` where somebody else could exchange what is in a directory."""
    owner = _name_of(status.st_uid)
    if status.st_uid not in (0, os.geteuid()):
        raise Denied(
            f"this root belongs to another user ({owner}, uid {status.st_uid}), who could exchange"
            f" what is in it. Let the agent run as that user: with VIRTSTORE_AGENT='sudo -u"
            f" {owner} virtstore-agent', or by ssh as that user. Only if nothing there needs to"
            f" be that user's: chown root {shlex.quote(path)}",
            path=path,
        )
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    if status.st_mode & stat.S_ISVTX:  # as /tmp is: it has to stay so
        remedy = "configure another, such as a directory in it that only its owner writes to"
    elif status.st_mode & stat.S_IWOTH:
        remedy = (
            "if it is on NTFS or FAT, which keep no modes, mount that with -o umask=077; else:"
            f" chmod go-w {shlex.quote(path)}"
        )
    else:
        remedy = (
            f"if the group {_group_name(status.st_gid)} has to, as in a pool of libvirt or oVirt,"
            " configure a directory in it that only its owner writes to, and let the agent run as"
            f" that owner; if not: chmod go-w {shlex.quote(path)}"
        )
    raise Denied(
        f"others can write to this root and so exchange what is in it; {remedy}", path=path
    )


def _name_of(uid: int) -> str:
    """As sudo(8) takes it: a user without a name by number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"\\#{uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _existing(fd: int, inside: str) -> str:
    """How much of a path below a directory there is."""
    while inside := inside.rpartition("/")[0]:
        with suppress(OSError):
            os.close(linux.open_beneath(fd, inside, os.O_PATH | os.O_DIRECTORY))
            return inside
    return ""
