"""Stores to keep the contract of backends/base.py, and what its tests do with them.

Adding a backend adds a constructor here and a name to conftest.py. Where a file system of
its own is needed, it is made in a file and mounted for the run; that takes root, and is
skipped, and says so, without. Volume groups are made in the lab only, where the suite runs
again (tests/lab/inside/test_volume_contract.py).

Stores differ by their `Capabilities`: `rounded`, `reserved` and `padded` turn those into
what a test may expect. Places differ as well, and what a place can do is told by `Subject`,
which nobody asks the store for.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from tests import waiting
from virtstore.backends.base import Store
from virtstore.backends.block_device.store import BlockDevice
from virtstore.backends.files.container_directory import ContainerDirectory
from virtstore.backends.files.directory import Directory
from virtstore.backends.lvm.drafts import VolumeDraft
from virtstore.backends.lvm.volume_group import VolumeGroup
from virtstore.digest import CHUNK
from virtstore.errors import Unsupported
from virtstore.model import ImageType

from .memory import Memory

SIZE = CHUNK + 4099
DATA = bytes(range(1, 251)) * 4000

_FICLONE = 0x40049409  # linux/fs.h
#: What the kernel says where a file system cannot do something.
_CANNOT = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS}


class Stopped(Exception):
    """What a test ends an operation with."""


def stop() -> None:
    raise Stopped


class Subject(msgspec.Struct, frozen=True):
    """A store to be tested, and what is so of its place. `again`: opens the same place by another
    path, as another agent has it; whoever calls it closes that. `snapshots`: an image's blocks can
    be shared. `marks`: an image can be marked, beside its contents. `holes`: what is zeroed of a
    sparse image gives its room back. `pool`: a thin pool of it.
    `type`: of its images. `times`: it tells when an image was written to, and whose it is."""

    store: Store
    again: Callable[[], Store]
    snapshots: bool = True
    marks: bool = True
    holes: bool = True
    pool: str | None = None
    type: ImageType = "file"
    times: bool = False


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


@contextmanager
def memory() -> Iterator[Subject]:
    store = Memory(capacity=64 << 20)
    yield Subject(store, lambda: copy.copy(store))


@contextmanager
def directory(parent: str) -> Iterator[Subject]:
    with _temporary(parent) as path:
        snapshots, marks, holes = _shares_blocks(path), _has_attributes(path), _makes_holes(path)
        with closing(_opened(path)) as store:
            yield Subject(
                store,
                lambda: _opened(f"{path}/."),
                snapshots=snapshots,
                marks=marks,
                holes=holes,
                times=True,
            )


@contextmanager
def _temporary(parent: str) -> Iterator[str]:
    """A directory that is removed. FUSE gives a file that is removed while it is open another name,
    and takes that away a moment after it was closed."""
    path = tempfile.mkdtemp(dir=parent)
    try:
        yield path
    finally:
        waiting.until(lambda: _removed(path), f"{path} to be empty")


def _removed(path: str) -> bool:
    with suppress(OSError):
        shutil.rmtree(path)
    return not os.path.exists(path)


def _opened(path: str) -> Directory:
    return ContainerDirectory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def _shares_blocks(path: str) -> bool:
    """Whether ioctl_ficlone(2) works there."""
    with _file(path) as one, _file(path) as other:
        return _works(lambda: fcntl.ioctl(other, _FICLONE, one))


def _has_attributes(path: str) -> bool:
    """Whether setxattr(2) works there."""
    with _file(path) as file:
        return _works(lambda: os.setxattr(file, "user.test", b"1"))


def _makes_holes(path: str) -> bool:
    """Whether a hole takes no room there, and can be made where there was data."""
    with _file(path) as file:
        os.pwrite(file, bytes(CHUNK), CHUNK)
        hole = ("fallocate", "--punch-hole", "--offset", "0", "--length", str(2 * CHUNK))
        punched = subprocess.run([*hole, f"/proc/self/fd/{file}"], pass_fds=[file], check=False)
        os.fsync(file)
        return punched.returncode == 0 and os.fstat(file).st_blocks * 512 < CHUNK


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


@contextmanager
def _file(path: str) -> Iterator[int]:
    fd, name = tempfile.mkstemp(dir=path)
    try:
        yield fd
    finally:
        os.close(fd)
        os.unlink(name)


class ThinVolumes(VolumeGroup):
    """A volume group whose images are made in one thin pool, as with `--thin POOL`."""

    reserves = False

    def __init__(self, name: str, pool: str) -> None:
        super().__init__(name)
        self._pool = pool

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> VolumeDraft:
        return super().draft(name, size, thin or self._pool, sparse=sparse)


@contextmanager
def volumes(group: str, pool: str, *, thin: bool) -> Iterator[Subject]:
    """An existing volume group with a thin pool; images are made in that only where it is asked
    for, or always. They are removed in the end."""

    def opened() -> VolumeGroup:
        return ThinVolumes(group, pool) if thin else VolumeGroup(group)

    with closing(opened()) as store:
        yield Subject(store, opened, pool=pool, type="lvm-thin" if thin else "lvm")
    subprocess.run(["lvremove", "-qq", "-y", "-S", "lv_role=public", group], check=True)


@contextmanager
def mounted(tmp_path: Path, size: int, *mkfs: str) -> Iterator[Path]:
    """A file system of its own, in a sparse file."""
    image, point = tmp_path / "fs.img", tmp_path / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*mkfs, str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    try:
        yield point
    finally:
        waiting.until(lambda: _unmounted(point), f"{point} to be unmounted")


def _unmounted(point: Path) -> bool:
    """Whether a file system could be unmounted. An error that a test has caught can keep a
    session's descriptors open by a cycle of references."""
    gc.collect()
    return subprocess.run(["umount", str(point)], capture_output=True).returncode == 0


class Disk(BlockDevice):
    """A device that is called x.img. A test that asks for what no device can do ends there."""

    def rounded(self, size: int) -> int:
        return 8 * CHUNK


def _or_end(verb: str) -> Callable[..., object]:
    def tried(store: Disk, *arguments: object, **options: object) -> object:
        try:
            return getattr(BlockDevice, verb)(store, *arguments, **options)
        except Unsupported as error:
            pytest.skip(f"{verb}: {error}")

    return tried


for _verb in ("draft", "archive", "remove", "discard", "grow", "shrink", "snapshot", "frozen"):
    setattr(Disk, _verb, _or_end(_verb))


@contextmanager
def device(tmp_path: Path) -> Iterator[Subject]:
    """A loop device, by two nodes of it."""
    backing = tmp_path / "disk"
    with backing.open("wb") as file:
        file.truncate(8 * CHUNK)
    with looped(backing) as path, closing(_node(path)) as node, closing(_node(path)) as other:
        yield Subject(
            Disk(node.fd, "x.img"),
            lambda: Disk(other.fd, "x.img"),
            snapshots=False,
            marks=False,
            type="block",
        )


class _node:
    """An O_PATH descriptor."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_PATH)

    def close(self) -> None:
        os.close(self.fd)


@contextmanager
def looped(backing: Path, *options: str) -> Iterator[str]:
    """The path of a loop device on a file."""
    told = subprocess.run(
        ["losetup", "--find", "--show", *options, str(backing)],
        check=True,
        capture_output=True,
        text=True,
    )
    try:
        yield told.stdout.strip()
    finally:
        subprocess.run(["losetup", "--detach", told.stdout.strip()], check=True)


def make(store: Store, name: str = "x.img", data: bytes = DATA, size: int = SIZE) -> None:
    if name != "x.img":
        require_several(store)
    fixed = store.capabilities.fixed
    with store.rework(name) if fixed else store.draft(name, size) as draft:
        if draft.holds != "zeros":
            draft.zero(0, draft.size)
        draft.write_at(0, data)
        draft.publish(overwrite=False)


def rounded(store: Store, size: int = SIZE) -> int:
    """How many bytes an image has of which `size` were wanted."""
    return store.rounded(size)


def reserved(store: Store, size: int = SIZE) -> int:
    """How many bytes such an image takes at least, whatever is in it."""
    reserves = getattr(store, "reserves", store.capabilities.reserves)
    return rounded(store, size) if reserves else 0


def padded(store: Store, data: bytes = DATA, size: int = SIZE) -> bytes:
    """`data` and then zeros, up to the end of an image of which `size` bytes were wanted."""
    return data.ljust(rounded(store, size), b"\0")


def require_several(store: Store) -> None:
    """A test that needs images that come and go ends where there is one that stays."""
    if store.capabilities.fixed:
        pytest.skip("a device is one image, and stays")


def kept(store: Store) -> int:
    """The byte from which on an image has what was written to it while it is neither old nor new:
    what has no names is marked at its beginning."""
    return 128 << 10 if store.capabilities.fixed else 0


def contents(store: Store, name: str = "x.img", *, partial: bool = False) -> bytes:
    with store.open(name, partial=partial) as image:
        return image.read_at(0, image.size)


def listed(store: Store) -> set[tuple[str, str]]:
    return {(found.name, found.state) for found in store.scan()}


def state(store: Store, name: str = "x.img") -> str | None:
    found = store.find(name)
    return found.state if found else None
