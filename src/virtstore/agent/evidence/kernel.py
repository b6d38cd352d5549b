"""What the kernel shows of who uses an image: processes' descriptors, mounts in every mount
namespace, loop devices, swap areas, stacked devices, and the bytes of a file that QEMU locks.

An image is known by device and inode. A whole disk is used where one of its partitions is, and a
partition where its whole disk is. Without root the kernel shows less, and so does this.

Sources: proc(5) on mountinfo, swaps, locks and fdinfo; the kernel's ABI documents on sysfs (block
devices and their partitions, fs/btrfs); loop(4); QEMU's block/file-posix.c for the bytes that it
locks (100 and up for permissions in use, 200 and up for those not shared).
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.agent import locks, processes
from virtstore.agent.evidence import Use
from virtstore.agent.processes import Descriptor, OpenFiles, identity_of, read
from virtstore.backends.base import Identity, Image
from virtstore.model import InUse

_QEMU_LOCK_BYTES: Final = range(100, 300)
#: Those of them that stand for changing it: to write, to write what is there already, to resize.
_QEMU_WRITES: Final = range(101, 200)
#: What udev's workers call themselves (systemd 252's udevd; before that, as their daemon).
_UDEV: Final = ("(udev-worker)", "systemd-udevd")
_OURSELVES: Final = InUse("process", "this agent")
_LOOP_GET_STATUS: Final = 0x4C05
#: struct loop_info64: the numbers of the backing file's device, inode, and, of a device, its own.
_LOOP_INFO: Final = struct.Struct("=3Q208x")
_LOCK: Final = re.compile(
    r"\d+: OFDLCK +\S+ +(?P<kind>READ|WRITE) +\S+ +(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):"
    r"(?P<inode>\d+) +(?P<start>\d+) +(?P<end>\d+|EOF)"
)


class _Mount(NamedTuple):
    device: int
    point: str


class Kernel:
    """What the kernel showed at the moment of construction."""

    def __init__(self) -> None:
        self._uses: dict[Identity, list[Use]] = defaultdict(list)
        mounts = list(_mounts())
        for source in (_mounted(mounts), _loops(mounts), _holders(), _swaps()):
            for identity, use in source:
                self._uses[identity].append(use)
        self._locks: dict[Identity, list[_Lock]] = defaultdict(list)
        for lock in _locks(read("/proc/locks")):
            self._locks[lock.identity].append(lock)
        self._open = processes.open_files(set(processes.numbers()) - {os.getpid()})

    def speaks_for(self, image: Image) -> bool:
        device = image.identity[0]
        return isinstance(device, int) and device != 0  # no device has that number

    def gather(self, images: Sequence[Image]) -> Iterator[tuple[Identity, Use]]:
        own = processes.open_files([os.getpid()])  # these images may have been opened since
        for image in images:
            for use in self._of(image.identity, own):
                yield image.identity, use
            for relative, what in relatives(image.identity):
                for use in self._of(relative, own):
                    told = InUse(use.evidence.by, f"{use.evidence.detail} ({what})")
                    yield image.identity, use._replace(evidence=told)

    def _of(self, identity: Identity, own: OpenFiles) -> Iterator[Use]:
        yield from self._uses.get(identity, ())
        locks = list(self._locks.get(identity, ()))
        ours: list[Descriptor] = []
        for descriptor in (*self._open.get(identity, ()), *own.get(identity, ())):
            with suppress(OSError):  # it is closed by now
                for use in self._by(descriptor):
                    if locks and use.whose != "another":
                        _take_away(locks, _locks_by(descriptor))
                        ours.append(descriptor)
                    yield use
        if locks and (left := _still_held(locks, identity, ours)):
            yield _use_of(left)

    def _by(self, descriptor: Descriptor) -> Iterator[Use]:
        flags, process = descriptor.flags(), descriptor.process
        if flags & os.O_PATH:
            return
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if process == os.getpid():
            yield Use(_OURSELVES, writes, whose="self")
            return
        name = processes.name_of(process)
        use = Use(InUse("process", f"{name} (pid {process})"), writes)
        if self._is_companion(process, writes=writes):
            yield use._replace(whose="companion")
        else:
            yield use._replace(passing=not writes and name in _UDEV)

    def _is_companion(self, process: int, *, writes: bool) -> bool:
        """Whether this agent, or an agent that only looks, started a process, or is it."""
        return any(
            each == os.getpid() or (not writes and self._only_looks(each))
            for each in processes.ancestry(process)
        )

    def _only_looks(self, process: int) -> bool:
        """Whether a process is an agent of the same user that holds no lock, as for `info`: what an
        agent copies from, it has locked."""
        if not processes.is_agent(process):
            return False
        files = [identity_of(os.stat(path)) for path in locks.files()]
        return all(d.process != process for file in files for d in self._open.get(file, ()))


look = Kernel


def relatives(identity: Identity, sysfs: str = "/sys/dev/block") -> Iterator[tuple[Identity, str]]:
    """Of a partition its disk, of a disk its partitions, each with what it is to the other."""
    match identity:
        case (int(device), 0):
            pass
        case _:
            return
    place = os.path.realpath(f"{sysfs}/{os.major(device)}:{os.minor(device)}")
    whole = os.path.dirname(place)
    related = (
        [(whole, "the disk of this partition")]
        if os.path.exists(f"{place}/partition")
        else [
            (os.path.dirname(path), f"its partition {_number(path)}")
            for path in glob.iglob(f"{glob.escape(place)}/*/partition")
        ]
    )
    for path, what in related:
        with suppress(OSError, ValueError):
            yield (_device(f"{path}/dev"), 0), what


def _number(path: str) -> str:
    return read(path).strip()


def _loops(mounts: Sequence[_Mount]) -> Iterator[tuple[Identity, Use]]:
    """Loop devices on a file or volume, and where those are mounted."""
    mounted = {mount.device: mount.point for mount in mounts}
    for loop in glob.iglob("/sys/block/loop*/loop"):
        with suppress(OSError, ValueError):
            block = os.path.dirname(loop)
            device = f"/dev/{os.path.basename(block)}"
            backing = _backing(loop, device)
            read_only = read(f"{block}/ro").strip() == "1"
            yield backing, Use(InUse("loop", device), not read_only)
            if (where := mounted.get(_device(f"{block}/dev"))) is not None:
                yield backing, Use(InUse("mount", f"{where} (by {device})"), not read_only)


def _backing(loop: str, device: str) -> Identity:
    """What a loop device is on. Its path means nothing where another mount namespace has it: then
    the device itself is asked, which is opened for that."""
    with suppress(OSError):
        return identity_of(os.stat(read(f"{loop}/backing_file").rstrip("\n")))
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = fcntl.ioctl(fd, _LOOP_GET_STATUS, bytes(_LOOP_INFO.size))
    finally:
        os.close(fd)
    file_system, inode, itself = _LOOP_INFO.unpack(told)
    return (itself, 0) if itself else (file_system, inode)


def _mounted(mounts: Sequence[_Mount]) -> Iterator[tuple[Identity, Use]]:
    """Block devices that are mounted themselves, or belong to a Btrfs that is."""
    for mount in mounts:
        yield (mount.device, 0), Use(InUse("mount", mount.point), True)
    named = {mount.device for mount in mounts}
    for path in glob.iglob("/sys/fs/btrfs/*/devices/*/dev"):
        with suppress(OSError, ValueError):
            if (device := _device(path)) not in named:
                what = f"of the Btrfs {path.split('/')[4]}"
                yield (device, 0), Use(InUse("mount", what), True)


def _holders() -> Iterator[tuple[Identity, Use]]:
    """Devices that are stacked on others (device mapper, md), also on partitions."""
    for holder in glob.iglob("/sys/class/block/*/holders/*"):
        with suppress(OSError, ValueError):
            held = _device(f"{os.path.dirname(os.path.dirname(holder))}/dev")
            yield (held, 0), Use(InUse("holder", f"/dev/{os.path.basename(holder)}"), True)


def _mounts() -> Iterator[_Mount]:
    """Every mount of every mount namespace."""
    seen: set[str] = set()
    for process in processes.numbers():
        with suppress(OSError):
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                for line in read(f"/proc/{process}/mountinfo").splitlines():
                    yield _mount(line)


def _mount(line: str) -> _Mount:
    """A line of mountinfo. A Btrfs has a device number of its own there, which is no device's; one
    of its devices is the source."""
    fields, _, (_, source, *_) = (part.split() for part in line.partition(" - "))
    major, minor = map(int, fields[2].split(":"))
    if major == 0 and source.startswith("/dev/"):
        with suppress(OSError):
            return _Mount(os.stat(source).st_rdev, fields[4])
    return _Mount(os.makedev(major, minor), fields[4])


def _swaps() -> Iterator[tuple[Identity, Use]]:
    with suppress(OSError):
        for line in read("/proc/swaps").splitlines()[1:]:
            path = line.split()[0].encode().decode("unicode_escape")
            with suppress(OSError):
                yield identity_of(os.stat(path)), Use(InUse("swap", path), True)


class _Lock(NamedTuple):
    """Bytes that QEMU locks in an image, from `start` to `end`."""

    identity: Identity
    start: int
    end: int

    @property
    def writes(self) -> bool:
        """Whether one of these bytes stands for changing the image."""
        return self.start < _QEMU_WRITES.stop and self.end >= _QEMU_WRITES.start


def _locks(text: str) -> Iterator[_Lock]:
    """The locks of QEMU's bytes that the kernel lists in `text` (proc(5) on locks and fdinfo)."""
    for found in _LOCK.finditer(text):
        if int(found["start"]) in _QEMU_LOCK_BYTES:
            device = os.makedev(int(found["major"], 16), int(found["minor"], 16))
            end = _QEMU_LOCK_BYTES.stop if found["end"] == "EOF" else int(found["end"])
            yield _Lock((device, int(found["inode"])), int(found["start"]), end)


def _locks_by(descriptor: Descriptor) -> Iterator[_Lock]:
    with suppress(OSError):
        yield from _locks(read(f"/proc/{descriptor.process}/fdinfo/{descriptor.number}"))


def _take_away(locks: list[_Lock], ours: Iterable[_Lock]) -> None:
    """Take our own locks out of all: a daemon that serves an image to us is nobody else."""
    for lock in ours:
        with suppress(ValueError):
            locks.remove(lock)


def _still_held(
    locks: Sequence[_Lock], identity: Identity, ours: Iterable[Descriptor]
) -> list[_Lock]:
    """Those of `locks` that are nobody's of `ours`, looked at anew: QEMU takes some of its locks
    for a moment only, and one that a program of ours had then is not seen with it any more."""
    now = [lock for lock in _locks(read("/proc/locks")) if lock.identity == identity]
    for descriptor in ours:
        _take_away(now, _locks_by(descriptor))
    return [lock for lock in locks if lock in now]


def _use_of(locks: Sequence[_Lock]) -> Use:
    """What an overlay of a guest lies over QEMU locks, too, and does not write to."""
    writes = any(lock.writes for lock in locks)
    how = "" if writes else ", for reading"
    return Use(InUse("qemu-lock", f"QEMU's lock bytes are held{how}"), writes)


def _device(path: str) -> int:
    """The device number that a file in sysfs tells."""
    major, minor = read(path).strip().split(":")
    return os.makedev(int(major), int(minor))
