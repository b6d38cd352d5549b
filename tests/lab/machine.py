"""One boot of the lab: wait for its command, read what it says, cut its power.

A machine is a process, and what it says goes to files in a directory: `stdout`, `stderr`,
`console`, and `control`, where `init` writes that the command starts and, once everything
is on the disks, how it ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

#: Bytes of output or console after which a machine is taken to have run wild.
OUTPUT_LIMIT: Final = 64 << 20

_POLL: Final = 0.02
#: Seconds that killed processes are given to go; a busy machine takes its time.
_END: Final = 60


class LabError(Exception):
    """The lab did not do what it was asked; the message ends with its console."""


class Hung(LabError):
    """It ran longer than it may, and was killed."""


class Crashed(LabError):
    """The kernel ended, and the command had not."""


@dataclass(frozen=True)
class Output:
    """What a machine had said when its power went."""

    stdout: bytes
    stderr: bytes
    console: bytes

    @property
    def text(self) -> str:
        """All of it, for a person."""
        parts = {"stdout": self.stdout, "stderr": self.stderr, "console": self.console[-3000:]}
        return "\n".join(
            f"--- {name}\n{said.decode('utf-8', 'replace')}" for name, said in parts.items() if said
        )


@dataclass(frozen=True)
class Result(Output):
    """A command that ended, and whose machine was shut down in order."""

    status: int

    def check(self) -> Result:
        """Itself; an AssertionError that shows everything if the command failed."""
        assert self.status == 0, f"exit status {self.status}\n{self.text}"
        return self


class Machine:
    """One boot."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        #: Outside's view of /run/lab.
        self.directory = directory
        self._process = process
        self._watchdog = _watchdog(process.pid)

    def wait(self, timeout: float, watch: Callable[[], None] = lambda: None) -> Result:
        """Wait for the command's end and the shutdown; `watch` is called meanwhile."""

        def ended() -> bool:
            watch()
            return self._process.poll() is not None

        self._wait_until(ended, timeout)
        watch()
        said = self._read("control").split()
        if len(said) < 2:
            raise Crashed(self._report("the lab's kernel ended before the command did"))
        output = self.output()
        return Result(output.stdout, output.stderr, output.console, int(said[1]))

    def wait_for(
        self, marker: bytes, timeout: float, *, on: Literal["stdout", "control"] = "stdout"
    ) -> None:
        """Wait until `marker` has been printed. Raises `Crashed` if that cannot come any more."""

        def printed() -> bool:
            over = self._process.poll() is not None
            if marker in self._read(on):
                return True
            if over:
                raise Crashed(self._report(f"the lab ended and {marker!r} was not printed"))
            return False

        self._wait_until(printed, timeout)

    def require_running(self) -> None:
        """Raises `Crashed` if the command has ended: too late to cut its power."""
        if len(self._read("control").split()) > 1 or self._process.poll() is not None:
            raise Crashed(self._report("the command ended before the power cut"))

    def cut_power(self) -> Output:
        """Kill the kernel and with it all that runs on it; the disks stay as they are."""
        if self._process.poll() is None:
            rest = _kill(self._process.pid)
            self._process.wait()
            _wait_for_the_end_of(rest)
        self._dismiss_watchdog()
        return self.output()

    def _dismiss_watchdog(self) -> None:
        self._watchdog.kill()
        assert self._watchdog.stdin
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def output(self) -> Output:
        """What it has said up to now."""
        return Output(self._read("stdout"), self._read("stderr"), self._read("console"))

    def _wait_until(self, done: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                self.cut_power()
                raise Hung(self._report(f"the lab did not end within {timeout:g} s"))
            if self._said() > OUTPUT_LIMIT:
                self.cut_power()
                raise LabError(self._report(f"the lab said more than {OUTPUT_LIMIT} bytes"))
            time.sleep(_POLL)

    def _said(self) -> int:
        return max((self.directory / n).stat().st_size for n in ("stdout", "stderr", "console"))

    def _read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def _report(self, what: str) -> str:
        return f"{what}\n{self.output().text}"


def _watchdog(kernel: int) -> subprocess.Popen[bytes]:
    """A process that ends the kernel's group when we end, however that comes: the kernel dies
    with us by itself, but not what it was running."""
    argv = ["sh", "-c", 'read -r _; kill -s KILL -- "-$0"', str(kernel)]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _kill(kernel: int) -> list[int]:
    """Each process in there is a process out here, in the kernel's group; only the one that
    watches a terminal's size has a group of its own. Returns them."""
    children = Path(f"/proc/{kernel}/task/{kernel}/children").read_text().split()
    rest = [*_group(kernel), *map(int, children)]
    os.killpg(kernel, signal.SIGKILL)  # first, and at once: what goes on is no power cut
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    return rest


def _group(leader: int) -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if (fields := _stat(path)) and int(fields[2]) == leader
    ]


def _stat(path: Path) -> list[bytes]:
    """State, parent, group, …; nothing for a process that is gone."""
    try:
        return path.read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _wait_for_the_end_of(killed: list[int]) -> None:
    """A process that was killed may take a moment to go, and can write until then."""
    deadline = time.monotonic() + _END
    for pid in killed:
        while (fields := _stat(Path(f"/proc/{pid}/stat"))) and fields[0] not in (b"Z", b"X"):
            if time.monotonic() > deadline:
                raise LabError(f"process {pid} does not end although it was killed")
            time.sleep(_POLL)
