"""Processes by their parents, their processor time and their memory, out of /proc (proc(5))."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def processor_time(pid: int) -> float:
    """Seconds that a process and its children that have ended were given; 0 once it has gone."""
    fields = _fields(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0


class Peak:
    """The most that any one process had resident, in bytes, and that process's name."""

    def __init__(self) -> None:
        self.bytes = 0
        self.process = ""

    def look(self, command: int, servers: tuple[int, ...]) -> None:
        for pid in {command} | _descendants((command, *servers)):
            with suppress(OSError, KeyError, ValueError):
                status = Path(f"/proc/{pid}/status").read_text()
                facts = dict(line.split(":", 1) for line in status.splitlines())
                resident = int(facts["VmHWM"].split()[0]) << 10
                if resident > self.bytes:
                    self.bytes, self.process = resident, facts["Name"].strip()


@contextmanager
def watched(command: int, servers: tuple[int, ...]) -> Iterator[Peak]:
    """Look at a command, and at all that it or the servers started, fifty times a second."""
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            peak.look(command, servers)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


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
