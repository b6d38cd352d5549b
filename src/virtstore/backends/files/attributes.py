"""What a file has beside its contents: owner, mode, access list, labels, and what else it is
marked with. It goes to whatever replaces the file.

An access list's mask and a mode's group bits are one and the same (acl(5)): a mode without the
list that it belonged to gives the mask's rights to the group. So the list is set, or taken away,
before the mode, and both after the owner and the labels: at no moment can anybody read the file
who could not read the one that it replaces.

What makes a program more powerful (set-user-ID, set-group-ID, file capabilities) is not carried: an
image is no program, and its new contents would get the power that was given to the old. The kernel
takes it away from a file that somebody writes to, but not from one that root writes to.

Sources: xattr(7), acl(5), ioctl_iflags(2); the kernel's include/uapi/linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from typing import Final, NoReturn

import msgspec

from virtstore import linux
from virtstore.errors import Denied

_LIST: Final = "system.posix_acl_access"
_LIST_OF_NEW: Final = "system.posix_acl_default"
_CARRIED: Final = ("user.", "trusted.", "security.", "btrfs.", _LIST, "system.nfs4_acl")
#: Speaks of the contents or the inode that had it, or is another view of the access list.
_NOT_CARRIED: Final = (
    "user.virtstore.",
    "security.capability",
    "security.ima",
    "security.evm",
    "trusted.overlay.",
    "trusted.SGI_",
)
#: What a new file has of these is somebody's who is not to have a say.
_TAKEN_AWAY: Final = ("user.", _LIST)
#: The file has no such thing, or its file system has none at all.
_ABSENT: Final = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)

_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10
_APPEND_ONLY: Final = 0x20
_NO_COPY_ON_WRITE: Final = 0x800000
#: Compressed, synchronous, not dumped, no access times.
_KEPT_FLAGS: Final = 0x04 | 0x08 | 0x40 | 0x80

_POWER: Final = stat.S_ISUID | stat.S_ISGID

_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")  # tag, permissions, uid or gid
_OWNER, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x10, 0x20


class Attributes(msgspec.Struct, frozen=True):
    """`extended`: of the extended attributes those that are carried, the access list among them;
    `owner` and `group` of -1: whatever they are; times in nanoseconds, None: as they are."""

    mode: int
    owner: int = -1
    group: int = -1
    extended: dict[str, bytes] = {}
    flags: int = 0
    times: tuple[int, int] | None = None


def read(fd: int) -> Attributes:
    """The attributes of an open file; O_PATH is enough. Raises `Denied` where they cannot be
    read."""
    status = os.fstat(fd)
    return Attributes(
        mode=stat.S_IMODE(status.st_mode) & ~_POWER,
        owner=status.st_uid,
        group=status.st_gid,
        extended=_extended(fd),
        flags=_flags(fd),
        times=(status.st_atime_ns, status.st_mtime_ns),
    )


def of_name(directory: int, name: str) -> Attributes:
    """The attributes of what has this name, whatever it is. Raises `FileNotFoundError`, and
    `Denied` where they cannot be read."""
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return read(found)
    finally:
        os.close(found)


def of_new(directory: int, mode: int, owner: int, group: int) -> Attributes:
    """The attributes of a new file in `directory`: with the access list that the directory has for
    new files (acl(5), "OBJECT CREATION AND DEFAULT ACLs"), bounded by `mode`."""
    extended = {}
    with suppress(OSError):  # it has none
        given = _bounded(os.getxattr(directory, _LIST_OF_NEW), mode)
        extended = {_LIST: given} if given else {}
    return Attributes(mode, owner, group, extended)


def give(fd: int, wanted: Attributes) -> None:
    """Give an open file these attributes. Raises `Denied` where that cannot be; nobody can read
    more then than before."""
    _give_owner(fd, wanted)
    present = _extended(fd)
    for name in present.keys() - wanted.extended.keys():
        if name.startswith(_TAKEN_AWAY):
            os.removexattr(fd, name)
    # The access list comes last: it sets the mode, too.
    for name, value in sorted(wanted.extended.items(), key=lambda item: item[0] == _LIST):
        if present.get(name) != value:
            _set(fd, name, value)
    if stat.S_IMODE(os.fstat(fd).st_mode) != wanted.mode:
        set_mode(fd, wanted.mode)
    kept = _flags(fd) & ~_KEPT_FLAGS | wanted.flags & _KEPT_FLAGS
    if kept != _flags(fd):
        _set_flags(fd, kept)
    if wanted.times:
        os.utime(fd, ns=wanted.times)


def set_mode(fd: int, mode: int) -> None:
    """Give one of our own files a mode. Where a file system keeps none (FAT, say, whose mount
    decides), it stays as it is."""
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        ours = os.fstat(fd).st_uid == os.geteuid() or os.geteuid() == 0
        if error.errno not in linux.CANNOT and not (error.errno == errno.EPERM and ours):
            raise


def take_power(fd: int) -> None:
    """Take set-user-ID, set-group-ID and capabilities from a file of ours that gets other
    contents."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & _POWER:
        set_mode(fd, mode & ~_POWER)


def match_copy_on_write(fd: int, like: int) -> None:
    """Make `fd`, which is empty, subject to copy-on-write or exempt from it as `like` is (Btrfs,
    `chattr +C`). Only such files can share blocks."""
    exempt, present = _flags(like) & _NO_COPY_ON_WRITE, _flags(fd)
    if present & _NO_COPY_ON_WRITE != exempt:
        _set_flags(fd, present & ~_NO_COPY_ON_WRITE | exempt)


def refuse_locked(fd: int) -> None:
    """Raises `Denied` for a file that may be neither replaced nor removed; O_PATH is enough."""
    flags = _flags(fd)
    for flag, word, letter in (
        (_IMMUTABLE, "immutable", "i"),
        (_APPEND_ONLY, "append-only", "a"),
    ):
        if flags & flag:
            raise Denied(
                f"somebody made it {word} (chattr +{letter}), so that nobody changes or removes"
                f" it; 'chattr -{letter}' takes that back"
            )


def _extended(fd: int) -> dict[str, bytes]:
    path = f"/proc/self/fd/{fd}"  # also of a descriptor that was opened with O_PATH
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return {}
        raise
    found = {}
    for name in names:
        if name.startswith(_CARRIED) and not name.startswith(_NOT_CARRIED):
            try:
                found[name] = os.getxattr(path, name)
            except PermissionError:
                _refuse("read", name)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
    return found


def _give_owner(fd: int, wanted: Attributes) -> None:
    now = os.fstat(fd)
    owner = now.st_uid if wanted.owner == -1 else wanted.owner
    group = now.st_gid if wanted.group == -1 else wanted.group
    if (owner, group) == (now.st_uid, now.st_gid):
        return
    try:
        os.fchown(fd, owner, group)
    except PermissionError:
        raise Denied(
            f"it would have to belong to uid {owner} and gid {group}, and this"
            f" agent, which runs as uid {os.geteuid()}, may not give it to them; have the"
            " agent run as root ('sudo virtstore-agent'), or change that owner first"
        ) from None


def _set(fd: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        _refuse("set", name, error.strerror)


def _refuse(verb: str, name: str, why: str | None = None) -> NoReturn:
    what = "the access list" if name == _LIST else f"the extended attribute {name}"
    how = "setfacl -b" if name == _LIST else f"setfattr -x {name}"
    raise Denied(
        f"what replaces an image has its access list, labels and attributes, and this agent,"
        f" which runs as uid {os.geteuid()}, cannot {verb} {what}{f' ({why})' if why else ''};"
        f" have the agent run as root ('sudo virtstore-agent'), or take it away first: {how} FILE"
    )


def _bounded(found: bytes, mode: int) -> bytes | None:
    """An access list with the rights of `mode`; None for one that says no more than a mode."""
    entries = list(_ENTRY.iter_unpack(found[_HEAD.size :]))
    if not any(tag == _MASK for tag, _, _ in entries):
        return None
    rights = {_OWNER: mode >> 6 & 7, _MASK: mode >> 3 & 7, _OTHERS: mode & 7}
    bounded = [_ENTRY.pack(tag, rights.get(tag, given), who) for tag, given, who in entries]
    return found[: _HEAD.size] + b"".join(bounded)


def _flags(fd: int) -> int:
    """The flags that lsattr(1) shows; 0 where the file system has none, or they cannot be read."""
    with suppress(OSError):
        looking = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            told = fcntl.ioctl(looking, _GET_FLAGS, bytes(8))
            return int.from_bytes(told[:4], "little")
        finally:
            os.close(looking)
    return 0


def _set_flags(fd: int, flags: int) -> None:
    with suppress(OSError):  # none of them is anybody's protection
        fcntl.ioctl(fd, _SET_FLAGS, flags.to_bytes(8, "little"))
