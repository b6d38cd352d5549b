"""The stores that the contract's suite runs against, each test with each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from .stores import Subject, device, directory, memory, mounted
from .stores import store as store

_MKFS = {"xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}
_PLACES = ["memory", "tmp", "shm", *_MKFS, "device"]
_NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
_BY_ROOT = (*_MKFS, "device")


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Where a file system of that kind is mounted; made when it is first asked for."""
    held: dict[str, tuple[Path, AbstractContextManager[Path]]] = {}

    def place(kind: str) -> Path:
        if kind not in held:
            made = mounted(tmp_path_factory.mktemp(kind), 320 << 20, *_MKFS[kind])
            held[kind] = (made.__enter__(), made)
        return held[kind][0]

    yield place
    for _, made in held.values():
        made.__exit__(None, None, None)


@pytest.fixture(
    params=[pytest.param(p, marks=_NEEDS_ROOT if p in _BY_ROOT else ()) for p in _PLACES]
)
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, places: Callable[[str], Path]
) -> Iterator[Subject]:
    kind: str = request.param
    if kind == "memory":
        opened = memory()
    elif kind == "device":
        opened = device(tmp_path)
    elif kind in _MKFS:
        opened = directory(str(places(kind)))
    else:
        opened = directory({"tmp": str(tmp_path), "shm": "/dev/shm"}[kind])
    with opened as subject:
        # What is said of them must not be what is found of any directory.
        assert subject.snapshots or kind not in _MKFS
        yield subject
