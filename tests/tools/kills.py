"""kill -9 of an agent, of its client, or of the daemon that serves it a disk, in the middle of what
it does.

How far it is, is told by its *work*: the calls to read and write that it and all its children have
made, and the bytes (/proc/PID/io, proc(5)). That depends on how busy the machine is much less than
the time does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.waiting import PATIENCE, until

import virtstore

Victim = Literal["agent", "daemon"]

_DAEMON: Final = "qemu-storage-daemon"
_EVERY: Final = 0.002
#: Bytes that count as one call.
_BYTES: Final = 64 << 10


class Ended(NamedTuple):
    """How a command ended: `error` is None where it succeeded. `work`: all that was done, `killed`:
    whether the victim was there to be killed."""

    error: virtstore.Error | None
    work: int
    killed: bool


def run(
    config: Path, command: Callable[[virtstore.Host], object], victim: Victim, after: int | None
) -> Ended:
    """Run a command with an agent of its own. Once so much work was done (`after`; None for never),
    kill the victim. Returns when nothing of the agent runs any more."""
    with virtstore.connect(config=str(config)) as host:
        watch = _Watch(agent_of(host).pid, victim, after)
        watch.start()
        error = None
        try:
            command(host)
        except virtstore.Error as failed:
            error = failed
        finally:
            watch.over.set()
            watch.join()
    until(lambda: not watch.alive(), "the end of all that the agent started")
    return Ended(error, watch.work, watch.killed)


def agent_of(host: virtstore.Host) -> subprocess.Popen[bytes]:
    """The agent of a host that is open."""
    assert host._sessions.first
    return host._sessions.first._process


def run_command(argv: Sequence[str], after: int | None) -> Ended:
    """The same for a command line, of which the client is killed. Its work is that of its agents,
    too; `error` is always None."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        watch = _Watch(client.pid, "agent", after)
        watch.start()
        client.wait()
        watch.over.set()
        watch.join()
    until(lambda: not watch.alive(), "the end of all that the client started")
    return Ended(None, watch.work, watch.killed)


def patiently(config: Path, act: Callable[[virtstore.Host], object]) -> None:
    """Do something by an agent of its own, once what another left has let go of the image."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with virtstore.connect(config=str(config)) as host:
            try:
                act(host)
                return
            except virtstore.InUse:
                assert time.monotonic() < deadline
                time.sleep(0.05)


class _Watch(threading.Thread):
    """Counts what an agent and its children do from now on, and kills."""

    def __init__(self, agent: int, victim: Victim, after: int | None) -> None:
        super().__init__(name="watch")
        self.over = threading.Event()
        self.killed = False
        self._agent, self._victim, self._after = agent, victim, after
        self._works: dict[tuple[int, str], int] = {}
        self._before = _work_of(agent)

    @property
    def work(self) -> int:
        return sum(self._works.values()) - self._before

    def alive(self) -> list[int]:
        """Those of all that were seen which still run."""
        return [pid for pid, started in self._works if _started(pid) == started]

    def run(self) -> None:
        while not self.over.wait(_EVERY):
            for pid in (self._agent, *children(self._agent)):
                if started := _started(pid):
                    known = self._works.get((pid, started), 0)
                    self._works[pid, started] = max(known, _work_of(pid))
            if self._after is not None and self.work >= self._after and self._kill():
                return

    def _kill(self) -> bool:
        """Whether the victim was there."""
        pids = [self._agent]
        if self._victim == "daemon":
            pids = [pid for pid in children(self._agent) if _is_daemon(pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed = True
        return self.killed


def children(pid: int) -> list[int]:
    """The children of a process, theirs, and so on; nothing of one that has ended."""
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


def _started(pid: int) -> str:
    """What tells a process from another one with the same number; nothing once it has ended."""
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    return ""


def _work_of(pid: int) -> int:
    with suppress(OSError):  # it has ended
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        told = {name: int(number) for name, number in (line.split(": ") for line in lines)}
        return told["syscr"] + told["syscw"] + (told["rchar"] + told["wchar"]) // _BYTES
    return 0


def _is_daemon(pid: int) -> bool:
    with suppress(OSError):
        return Path(os.readlink(f"/proc/{pid}/exe")).name == _DAEMON
    return False
