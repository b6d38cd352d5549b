"""Shell lines for tests in the lab, and what they look at."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20

#: Of a host with a volume group and a directory.
CONFIGURATION: Final = """
[[volume_group]]
name = "vg0"
access = "write"

[[directory]]
path = "/mnt/images"
access = "write"
volatile = true
"""


def sh(script: str) -> str:
    """What it printed. An AssertionError, with all that it said, if it failed."""
    done = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def lvs(options: str = "") -> set[str]:
    """The names of the volumes in vg0, as LVM has them."""
    return set(sh(f"lvs --noheadings -o lv_name {options} vg0").split())


def is_zero(path: str, start: int = 0) -> bool:
    """Whether every byte of a volume or file from `start` on is zero."""
    with Path(path).open("rb") as file:
        file.seek(start)
        while block := file.read(4 << 20):
            if block.strip(b"\0"):
                return False
    return True


def fill(path: str, length: int, byte: bytes = b"\xee") -> None:
    """Write over the first `length` bytes of a volume or file."""
    with Path(path).open("r+b") as file:
        for _ in range(0, length, MIB):
            file.write(byte * MIB)


def rest_has(byte: bytes) -> bool:
    """Whether the free space of vg0 shows a page of nothing but `byte`, to somebody who takes
    it as LVM gives it out."""
    sh("lvcreate -qq -y -Zn -Wn -l 100%FREE -n rest vg0")
    with Path("/dev/vg0/rest").open("rb") as file:
        found = any(byte * 4096 in block for block in iter(lambda: file.read(4 * MIB), b""))
    sh("lvremove -qq -y vg0/rest")
    return found
