"""A guest's file system in this kernel: seen by nobody else, gone whatever is killed."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from virtstore.filesystems import loop, mounted
from virtstore.filesystems.base import Device
from virtstore.filesystems.superblock import filesystem_size

from ...waiting import until
from ..conftest import TORTURE
from ..replay import IN_THE_LAB
from .mounts import (
    FILESYSTEMS,
    MADE,
    SIZE,
    check_whole,
    image,
    make,
    make_tree,
    mounts,
    nothing_is_left,
)
from .shell import MIB, sh

#: Times that each resize is killed.
KILLS = 50 if IN_THE_LAB or TORTURE in os.environ else 1

SLEEPER = """
from virtstore.filesystems import loop, mounted
from virtstore.filesystems.btrfs import _MOUNTING
with loop.attached(device) as whole:
    mounted.run_mounted(whole, _MOUNTING, "sleep", "61")
"""
RESIZER = """
from virtstore.filesystems.registry import for_type
print("ready", flush=True)
getattr(for_type(sys.argv[3]), sys.argv[4])(device, int(sys.argv[5]))
"""
AGENT = """
import os, sys
from virtstore.filesystems.base import Device
fd, lock = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2])
device = Device(fd, os.fstat(fd).st_size, lock=lock)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), 300)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with image(tmp_path / "image") as device:
        yield device
    until(nothing_is_left, "all mounts and loop devices are gone")


class Lock:
    """Stands in for an image's lock: held by an agent and by what inherited it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def free(self) -> bool:
        with self.path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def holders(self) -> dict[int, str]:
        """Processes that have it open, by what they run."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                if str(self.path) in map(os.readlink, (process / "fd").iterdir()):
                    found[int(process.name)] = (process / "comm").read_text().strip()
        return found


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "lock")


@contextmanager
def agent(code: str, lock: Lock, path: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds an image's lock and works on it. What is left is killed at the end."""
    with lock.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fd = os.dup(file.fileno())
    argv = [sys.executable, "-c", AGENT + code, path, str(fd), *args]
    process = subprocess.Popen(
        argv, pass_fds=[fd], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    os.close(fd)
    try:
        yield process
    finally:
        kill(*lock.holders())
        process.communicate()


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def all_killed(lock: Lock) -> bool:
    """A process that was just starting another may leave one that waits for it for ever, so
    once is not enough: bubblewrap does, in the first milliseconds."""
    kill(*lock.holders())
    return lock.free


@contextmanager
def sleeping(device: Device, lock: Lock) -> Iterator[subprocess.Popen[bytes]]:
    """An agent whose tool sleeps for a minute on a mounted file system."""
    make(device, "btrfs", None)
    with agent(SLEEPER, lock, os.readlink(device.path)) as process:
        until(lambda: "sleep" in lock.holders().values(), "it sleeps")
        yield process


def test_the_mount_is_seen_by_its_own_processes_only_and_bears_nothing_harmful(
    device: Device, lock: Lock
) -> None:
    before = sorted(p.name for p in Path("/tmp").iterdir())
    with sleeping(device, lock) as process:
        seen = mounts()
        assert seen
        assert set(seen) <= set(lock.holders()) - {process.pid}
        assert os.getpid() not in seen
        for line in seen.values():
            point, options = line.split()[4:6]
            assert point == "/tmp"
            assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
            assert " shared:" not in line
        assert sorted(p.name for p in Path("/tmp").iterdir()) == before


@pytest.mark.parametrize("victim", ["sleep", "sh", "timeout", "unshare"])
def test_kill_9_of_any_process_of_the_mounts_takes_the_mount_with_it(
    device: Device, lock: Lock, victim: str
) -> None:
    with sleeping(device, lock) as process:
        kill(*(pid for pid, name in lock.holders().items() if name == victim))
        process.wait(20)
        until(nothing_is_left, "all mounts and loop devices are gone")
        assert lock.free


def test_an_agents_death_leaves_the_tool_to_end_with_the_image_locked(
    device: Device, lock: Lock
) -> None:
    with sleeping(device, lock) as process:
        process.kill()
        process.wait()
        time.sleep(0.5)
        assert mounts()
        assert not lock.free
        kill(*(pid for pid, name in lock.holders().items() if name == "sleep"))
        until(lambda: lock.free, "the lock is free")
        until(nothing_is_left, "all mounts and loop devices are gone")


def test_a_tool_that_hangs_is_ended_and_unmounted(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(device, "xfs", None)
    monkeypatch.setattr(mounted, "CHANGE_TIMEOUT", 1)
    with loop.attached(device) as whole:
        mounting = mounted.Mounting("xfs", ("nouuid",))
        assert mounted.run_mounted(whole, mounting, "sleep", "62").status == 128 + signal.SIGKILL


@pytest.mark.parametrize("moment", range(KILLS))
@pytest.mark.parametrize(
    ("kind", "verb", "made", "target"),
    [
        ("btrfs", "shrink", SIZE, 270 * MIB),
        ("btrfs", "grow", MADE, SIZE),
        ("xfs", "grow", MADE, SIZE),
    ],
    ids=["btrfs-shrink", "btrfs-grow", "xfs-grow"],
)
def test_a_resize_killed_at_any_moment_leaves_the_old_or_the_new_and_can_be_done_again(
    device: Device, lock: Lock, tree: Path, kind: str, verb: str, made: int, target: int,
    moment: int,
) -> None:  # fmt: skip
    make(device, kind, tree, made=made)
    seeded = random.Random(moment)
    with agent(RESIZER, lock, os.readlink(device.path), kind, verb, str(target)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seeded.uniform(0, 1.6))
        kill(process.pid)
        if (moment + (verb == "grow")) % 2:
            until(lambda: all_killed(lock), "all that worked for it are gone")
        until(lambda: lock.free, "the lock is free")
    until(nothing_is_left, "all mounts and loop devices are gone")
    assert filesystem_size(kind, device) in (made, target)
    resized = getattr(FILESYSTEMS[kind], verb)(device, target)
    assert resized.size == filesystem_size(kind, device) == target
    check_whole(device, kind, tree)
    sh("sync")
