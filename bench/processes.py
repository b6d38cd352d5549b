"""Processes by their parents, their processor time and their memory, out of /proc (proc(5))."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.model import Share

TICKS = os.sysconf("SC_CLK_TCK")
#: A process that used less is not named.
_LEAST = 0.02


def children(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def processor_time(pid: int) -> float:
    """Seconds that a process and its children that have ended were given; 0 once it has gone."""
    fields = _fields(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0


class Usage:
    """What a command used, and all that it or the servers started: the most that any one process
    had resident, in bytes, with its name, and the processor time of each end."""

    def __init__(self, command: int, servers: tuple[int, ...]) -> None:
        self.bytes = 0
        self.process = ""
        #: The same of the largest process of each program, by end.
        self.peaks: dict[tuple[str, str], int] = {}
        self._command = command
        self._servers = servers
        self._before = {pid: _own_time(pid) for pid in servers}
        self._shares: dict[int, Share] = {}

    def look(self) -> None:
        there = _descendants(self._servers) | set(self._servers)
        here = _descendants((self._command,)) | {self._command}
        for pid in here | there:
            with suppress(OSError, KeyError, ValueError, IndexError):
                self._look_at(pid, "there" if pid in there else "here")

    def shares(self) -> tuple[Share, ...]:
        """Processor time by end and program, most first."""
        seconds: dict[tuple[str, str], float] = defaultdict(float)
        for share in self._shares.values():
            seconds[share.end, share.program] += share.seconds
        summed = [Share(*key, value) for key, value in seconds.items() if value >= _LEAST]
        return tuple(sorted(summed, key=lambda each: (each.end, -each.seconds)))

    def _look_at(self, pid: int, end: str) -> None:
        seconds = _own_time(pid) - self._before.get(pid, 0)
        program = _program(pid) or self._shares[pid].program  # it has ended, and has no words now
        self._shares[pid] = Share(end, program, seconds)
        if pid in self._servers:
            return
        status = Path(f"/proc/{pid}/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines())
        resident = int(facts["VmHWM"].split()[0]) << 10
        self.peaks[end, program] = max(self.peaks.get((end, program), 0), resident)
        if resident > self.bytes:
            self.bytes, self.process = resident, facts["Name"].strip()


@contextmanager
def watched(command: int, servers: tuple[int, ...]) -> Iterator[Usage]:
    """Look at a command, and at all that it or the servers started, fifty times a second."""
    usage, over = Usage(command, servers), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            usage.look()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield usage
    finally:
        over.set()
        watcher.join()


def _program(pid: int) -> str:
    """What a process is in a copy: virtstore's agent, its client, or a program's name; nothing once
    it has ended."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    names = [Path(word).name for word in words[:6]]
    if not any(words):
        return ""
    if "virtstore-agent" in names or "virtstore.agent" in names:
        return "agent"
    if "virtstore" in names:
        return "client"
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _own_time(pid: int) -> float:
    """Seconds that a process itself was given."""
    fields = _fields(pid)
    return sum(map(int, fields[11:13])) / TICKS if fields else 0


def _descendants(roots: tuple[int, ...]) -> set[int]:
    parents = _parents()
    found: set[int] = set()
    newest = set(roots)
    while newest:
        newest = {pid for pid, parent in parents.items() if parent in newest} - found
        found |= newest
    return found


def _parents() -> dict[int, int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return {pid: int(fields[1]) for pid in pids if (fields := _fields(pid))}


def _fields(pid: int) -> list[str]:
    """The fields of stat behind the name, which is in brackets and may hold anything."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
