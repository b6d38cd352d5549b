"""Whose a snapshot is that only one copy needs: the process that makes that copy.

A process is written with its boot and the moment of its start, since a process number comes again.

Source: proc(5) on stat (field 22) and on sys/kernel/random/boot_id.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """Who makes a copy: a process, as it is written beside what it made: `BOOT.PID.START`."""

    boot: str
    pid: int
    start: int

    @classmethod
    def here(cls) -> Owner:
        return cls(_boot(), os.getpid(), _start(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The process that a text names; None for a text that is none of ours."""
        boot, _, rest = text.partition(".")
        pid, _, start = rest.partition(".")
        return cls(boot, int(pid), int(start)) if pid.isdigit() and start.isdigit() else None

    @property
    def text(self) -> str:
        return f"{self.boot}.{self.pid}.{self.start}"

    def is_alive(self) -> bool:
        if self.boot != _boot():
            return False
        try:
            return _start(self.pid) == self.start
        except OSError:
            return False


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")


def _start(pid: int) -> int:
    # The second field is the command's name in parentheses, and may hold anything.
    text = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]
    return int(text.split()[19])
