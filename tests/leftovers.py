"""What a test leaves behind of what belongs to the whole process or machine.

Other tests would find it: a thread that is still there, a child that nobody waited for, a
descriptor, a mount or a loop device. Only what this process itself made is looked at, since
other tests run beside it. What ends by itself is waited for, generously.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .waiting import PATIENCE

#: In the environment of every process that the tests of this process start, and of theirs.
MARK: Final = "VIRTSTORE_TESTS_OF"

#: Finds what is there now: what identifies each, with a description. A process may change what it
#: calls itself.
Look = Callable[[], dict[str, str]]


def threads() -> dict[str, str]:
    """The threads of this process."""
    return {f"thread {t.native_id}": t.name for t in threading.enumerate()}


def children() -> dict[str, str]:
    """The child processes of this process, also those that ended and were not waited for."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found |= set((task / "children").read_text().split())
    return {f"child {pid}": _command(pid) for pid in found}


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, by what they are open on."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            file = os.readlink(f"/proc/self/fd/{fd}")
            if not file.startswith("/proc/"):  # that of this listing among them
                found[f"descriptor {fd} on {file}"] = "open"
    return found


def mounts(below: Path) -> dict[str, str]:
    """What is mounted below a directory."""
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    points = {line.split()[4] for line in lines}
    return {f"mount on {point}": "mounted" for point in points if point.startswith(f"{below}/")}


def loops(below: Path) -> dict[str, str]:
    """Loop devices on files below a directory."""
    found = {}
    for told in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # detached since
            if (file := told.read_text().strip()).startswith(f"{below}/"):
                found[f"loop device {told.parts[3]}"] = f"on {file}"
    return found


def processes() -> dict[str, str]:
    """All processes that tests of this process started, whoever their parents are by now."""
    mark = f"{MARK}={os.getpid()}".encode()
    found = {}
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # ended since, or somebody else's
            pid = environment.parts[2]
            if mark in environment.read_bytes().split(b"\0") and int(pid) != os.getpid():
                found[f"process {pid}"] = _command(pid)
    return found


def holders(below: Path) -> dict[str, str]:
    """Other processes that have a file below a directory open: also those that were started with
    an environment of their own."""
    found = {}
    for pid in os.listdir("/proc"):
        if pid.isdecimal() and int(pid) != os.getpid():
            for file in _opened(pid):
                if file.startswith(f"{below}/"):
                    found[f"process {pid} on {file}"] = _command(pid)
    return found


def _opened(pid: str) -> Iterator[str]:
    with suppress(OSError):  # ended since, or somebody else's
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed since
                yield os.readlink(f"/proc/{pid}/fd/{fd}")


def settled(look: Look, before: Iterable[str]) -> list[str]:
    """What there is beyond `before`, once what ends by itself has had its time."""
    deadline = time.monotonic() + PATIENCE
    known = set(before)
    while left := {what: told for what, told in look().items() if what not in known}:
        if time.monotonic() > deadline:
            return [f"{what} ({told})" for what, told in left.items()]
        gc.collect()  # what only a cycle of references keeps open
        time.sleep(0.02)
    return []


@contextmanager
def none_of_the_process() -> Iterator[None]:
    """An AssertionError where what runs inside leaves threads, children or descriptors."""
    looks = (threads, children, descriptors)
    before = [look() for look in looks]
    yield
    left = [each for look, had in zip(looks, before, strict=True) for each in settled(look, had)]
    assert not left, f"left behind: {'; '.join(sorted(left))}"


@contextmanager
def none_of_the_machine(below: Path) -> Iterator[None]:
    """An AssertionError where what runs inside leaves mounts or loop devices below a directory,
    or processes, or who has a file there open, whoever their parents are by now."""
    yield
    looks: tuple[Look, ...] = (
        processes,
        lambda: holders(below),
        lambda: mounts(below),
        lambda: loops(below),
    )
    left = [each for look in looks for each in settled(look, ())]
    assert not left, f"left behind: {'; '.join(sorted(left))}"


def _command(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
    return "ended"
