"""Who makes a copy: a process, told apart from any other that ever had its number.

A process number comes again, also after a restart; together with the boot and the moment
of the process's start it does not. Sources: proc(5) on stat (field 22) and on
sys/kernel/random/boot_id.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """A process, as it is written into an LVM tag: `BOOT.PID.START`."""

    boot: str
    pid: int
    start: int

    @classmethod
    def here(cls) -> Owner:
        return cls(_boot(), os.getpid(), _start(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """None for what nobody of ours wrote."""
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
