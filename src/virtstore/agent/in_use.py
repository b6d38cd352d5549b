"""Who uses an image: evidence, gathered by looking at the whole host once.

A `Scan` reads what the kernel shows of every process, mount namespace, swap area, loop
device and file lock, and then answers for any number of images, which are known by device
and inode, not by name. Without root the kernel shows less, and so does a scan.

Sources: proc(5) on mountinfo, swaps, locks and fdinfo; QEMU's block/file-posix.c for the
bytes that it locks (100 and up for permissions in use, 200 and up for those not shared).
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.backends.base import Identity
from virtstore.errors import InUse as InUseError
from virtstore.model import InUse

_QEMU_LOCK_BYTES: Final = range(100, 300)
#: What udev's workers call themselves (systemd 252's udevd; before that, as their daemon).
_UDEV: Final = ("(udev-worker)", "systemd-udevd")
_LOCK: Final = re.compile(
    r"\d+: OFDLCK +\S+ +(?P<kind>READ|WRITE) +\S+ +(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):"
    r"(?P<inode>\d+) +(?P<start>\d+) "
)


class _Use(NamedTuple):
    """`passing`: by udev, which reads a device that was made or written, and goes."""

    evidence: InUse
    writes: bool
    passing: bool = False


class Scan:
    """What the host showed at the moment of construction."""

    def __init__(self) -> None:
        self._uses: dict[Identity, list[_Use]] = defaultdict(list)
        for gather in (_mounted, _holders, _loops, _swaps, _locks, _processes):
            for identity, use in gather():
                if use not in self._uses[identity]:
                    self._uses[identity].append(use)

    def of(self, identity: Identity) -> tuple[InUse, ...]:
        """All evidence for one image."""
        return tuple(use.evidence for use in self._uses.get(identity, ()))

    def users(self, identity: Identity) -> frozenset[InUse]:
        """The same, without those who go in a moment."""
        return frozenset(use.evidence for use in self._uses.get(identity, ()) if not use.passing)

    def is_passing(self, identity: Identity) -> bool:
        """Whether there is evidence, and all of it is of somebody who goes in a moment."""
        uses = self._uses.get(identity, ())
        return bool(uses) and all(use.passing for use in uses)

    def refuse(self, identity: Identity, *, writers_only: bool = False) -> None:
        """Raises the error `InUse`, with the evidence, if there is any (`writers_only`: of
        somebody who may be changing the image)."""
        uses = [u for u in self._uses.get(identity, ()) if u.writes or not writers_only]
        if uses:
            told = "; ".join(f"{u.evidence.by}: {u.evidence.detail}" for u in uses)
            raise InUseError(f"somebody uses it ({told})")


def _loops() -> Iterator[tuple[Identity, _Use]]:
    """Loop devices on a file or volume, and where those are mounted."""
    mounts = {(os.major(d), os.minor(d)): where for d, where in _mounts()}
    for loop in glob.iglob("/sys/block/loop*/loop"):
        with suppress(OSError, ValueError):
            block = os.path.dirname(loop)
            backing = os.stat(_text(f"{loop}/backing_file").rstrip("\n"))
            read_only = _text(f"{block}/ro").strip() == "1"
            major, minor = _text(f"{block}/dev").strip().split(":")
            number = int(major), int(minor)
            device = f"/dev/{os.path.basename(block)}"
            yield _of(backing), _Use(InUse("loop", device), not read_only)
            if number in mounts:
                where = f"{mounts[number]} (by {device})"
                yield _of(backing), _Use(InUse("mount", where), not read_only)


def _mounted() -> Iterator[tuple[Identity, _Use]]:
    """Block devices that are mounted themselves."""
    for device, where in _mounts():
        yield (device, 0), _Use(InUse("mount", where), True)


def _holders() -> Iterator[tuple[Identity, _Use]]:
    """Devices that are stacked on others (device mapper, md)."""
    for holder in glob.iglob("/sys/block/*/holders/*"):
        with suppress(OSError, ValueError):
            held = os.path.dirname(os.path.dirname(holder))
            major, minor = _text(f"{held}/dev").strip().split(":")
            device = os.makedev(int(major), int(minor))
            yield (device, 0), _Use(InUse("holder", f"/dev/{os.path.basename(holder)}"), True)


def _mounts() -> Iterator[tuple[int, str]]:
    """Device number and mount point of every mount of every mount namespace."""
    seen: set[str] = set()
    for process in _process_numbers():
        with suppress(OSError):
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                for line in _text(f"/proc/{process}/mountinfo").splitlines():
                    fields = line.split()
                    major, minor = fields[2].split(":")
                    yield os.makedev(int(major), int(minor)), fields[4]


def _swaps() -> Iterator[tuple[Identity, _Use]]:
    with suppress(OSError):
        for line in _text("/proc/swaps").splitlines()[1:]:
            path = line.split()[0].encode().decode("unicode_escape")
            with suppress(OSError):
                yield _of(os.stat(path)), _Use(InUse("swap", path), True)


def _locks() -> Iterator[tuple[Identity, _Use]]:
    """The bytes that QEMU locks in an image. A lock does not tell who may write; it counts
    as if the guest could."""
    with suppress(OSError):
        for line in _text("/proc/locks").splitlines():
            found = _LOCK.match(line)
            if found and int(found["start"]) in _QEMU_LOCK_BYTES:
                device = os.makedev(int(found["major"], 16), int(found["minor"], 16))
                evidence = InUse("qemu-lock", "QEMU's lock bytes are held")
                yield (device, int(found["inode"])), _Use(evidence, True)


def _processes() -> Iterator[tuple[Identity, _Use]]:
    """Every regular file or block device that another process has open."""
    for process in _process_numbers():
        if process == os.getpid():
            continue
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                yield from _open_file(process, fd)


def _open_file(process: int, fd: str) -> Iterator[tuple[Identity, _Use]]:
    with suppress(OSError):
        path = f"/proc/{process}/fd/{fd}"
        # Sockets, pipes and the like read as "kind:[number]": no need to stat those.
        if not os.readlink(path).startswith("/"):
            return
        flags = _flags(process, fd)
        if not flags & os.O_PATH:
            name = _text(f"/proc/{process}/comm").rstrip("\n")
            evidence = InUse("process", f"{name} (pid {process})")
            writes = flags & os.O_ACCMODE != os.O_RDONLY
            yield _of(os.stat(path)), _Use(evidence, writes, not writes and name in _UDEV)


def _flags(process: int, fd: str) -> int:
    text = _text(f"/proc/{process}/fdinfo/{fd}")
    return int(next(line for line in text.splitlines() if line.startswith("flags:"))[6:], 8)


def _text(path: str) -> str:
    with open(path) as stream:
        return stream.read()


def _process_numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _of(status: os.stat_result) -> Identity:
    if stat.S_ISBLK(status.st_mode):
        return status.st_rdev, 0
    return status.st_dev, status.st_ino
