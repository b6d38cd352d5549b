"""Stores to keep the contract of backends/base.py, and what its tests do with them.

Adding a backend adds a constructor here and a name to conftest.py. Where a file system of
its own is needed, it is made in a file and mounted for the run; that takes root, and is
skipped, and says so, without. Volume groups are made in the lab only, where the suite runs
again (tests/lab/inside/test_volume_contract.py).

Stores differ by their `Capabilities`: `rounded`, `reserved` and `padded` turn those into
what a test may expect.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from virtstore.backends.base import Store
from virtstore.backends.directory import Directory
from virtstore.backends.lvm import VolumeGroup
from virtstore.backends.lvm_volumes import VolumeDraft
from virtstore.backends.memory import Memory
from virtstore.digest import CHUNK

SIZE = CHUNK + 4099
DATA = bytes(range(1, 251)) * 4000


@contextmanager
def memory() -> Iterator[Store]:
    yield Memory(capacity=64 << 20)


@contextmanager
def directory(parent: str) -> Iterator[Store]:
    with tempfile.TemporaryDirectory(dir=parent) as path:
        store = Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        try:
            yield store
        finally:
            store.close()


class ThinVolumes(VolumeGroup):
    """A volume group whose images are made in one thin pool, as with `--thin POOL`."""

    def __init__(self, name: str, pool: str) -> None:
        super().__init__(name)
        self._pool = pool
        self.capabilities = msgspec.structs.replace(self.capabilities, image_type="lvm-thin")

    def draft(self, name: str, size: int, thin: str | None = None) -> VolumeDraft:
        return super().draft(name, size, thin or self._pool)


@contextmanager
def volumes(group: str, pool: str | None = None) -> Iterator[Store]:
    """An existing volume group, or a thin pool of it; its images are removed in the end."""
    store = ThinVolumes(group, pool) if pool else VolumeGroup(group)
    try:
        yield store
    finally:
        store.close()
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
        subprocess.run(["umount", str(point)], check=True)


def make(store: Store, name: str = "x.img", data: bytes = DATA, size: int = SIZE) -> None:
    with store.draft(name, size) as draft:
        if draft.holds != "zeros":
            draft.zero(0, draft.size)
        draft.write_at(0, data)
        draft.publish(overwrite=False)


def rounded(store: Store, size: int = SIZE) -> int:
    """How many bytes an image has of which `size` were wanted."""
    step = store.capabilities.granularity
    return -(-size // step) * step


def reserved(store: Store, size: int = SIZE) -> int:
    """How many bytes such an image takes at least, whatever is in it."""
    return 0 if store.capabilities.image_type == "lvm-thin" else rounded(store, size)


def padded(store: Store, data: bytes = DATA, size: int = SIZE) -> bytes:
    """`data` and then zeros, up to the end of an image of which `size` bytes were wanted."""
    return data.ljust(rounded(store, size), b"\0")


def contents(store: Store, name: str = "x.img", *, partial: bool = False) -> bytes:
    with store.open(name, partial=partial) as image:
        return image.read_at(0, image.size)


def listed(store: Store) -> set[tuple[str, str]]:
    return {(found.name, found.state) for found in store.scan()}


def state(store: Store, name: str = "x.img") -> str | None:
    found = store.find(name)
    return found.state if found else None


def shares_blocks(store: Store) -> bool:
    return not isinstance(store, Directory) or store.shares_blocks()
