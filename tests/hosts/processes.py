"""Processes that a run of virtstore started, on either side of ssh.

All of them have a directory of the tests in their arguments or their environment: the
client and its ssh by the configuration that they were given, an agent and its tools by
the PATH that the host's sshd gave them. The listening sshd itself and the tests are not
meant, nor sshd's own processes for a connection.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..waiting import PATIENCE

_OURS: Final = os.getpid()


class Running(NamedTuple):
    pid: int
    name: str
    arguments: str


def of(directory: Path) -> list[Running]:
    """The processes of whatever runs use `directory`."""
    return [
        p
        for p in _all()
        if p.pid != _OURS and not p.name.startswith("sshd") and _mentions(p, directory)
    ]


def agents(directory: Path, *options: str) -> list[Running]:
    """Agents on a host, not ssh which has the same words in its arguments; those of one host
    if its configuration is named."""
    return [
        p
        for p in of(directory)
        if p.name.startswith("virtstore-agent") and all(o in p.arguments for o in options)
    ]


def connections(listening: int) -> list[int]:
    """The processes of a listening sshd that serve connections. Each is one process for
    root, and two for anybody else (sshd's separation of privileges)."""
    children = served(listening)
    return children + [pid for pid, parent in _daemons().items() if parent in children]


def served(listening: int) -> list[int]:
    """The processes of a listening sshd, one for each connection, authenticated or not yet."""
    return [pid for pid, parent in _daemons().items() if parent == listening]


def are_gone(directory: Path, seconds: float = PATIENCE) -> list[Running]:
    """What is left after at most `seconds`: nothing, if all went well."""
    deadline = time.monotonic() + seconds
    while (left := of(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def peak_memory(process: Running) -> int:
    """Bytes that were resident at most so far; 0 once it has gone."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
    return 0


def _mentions(process: Running, directory: Path) -> bool:
    if str(directory) in process.arguments:
        return True
    with suppress(OSError):
        return str(directory).encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
    return False


def _daemons() -> dict[int, int]:
    """The parent of each sshd."""
    return {p.pid: _parent(p.pid) for p in _all() if p.name.startswith("sshd")}


def _parent(pid: int) -> int:
    with suppress(OSError):
        # proc(5): the second field, in brackets, may hold anything; the parent is the fourth.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _all() -> Iterator[Running]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            if arguments:  # else a kernel thread, or one that has ended
                name = (entry / "comm").read_text().rstrip("\n")
                yield Running(int(entry.name), name, arguments.decode(errors="replace"))
