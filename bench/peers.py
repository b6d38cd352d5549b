"""What was measured with: this machine and the versions of all programs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from demo.loopback import find

from bench.model import Machine
from bench.place import Place
from virtstore.version import __version__

_ASK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ssh", ("ssh", "-V")),
    ("lzop", ("lzop", "--version")),
    ("zstd", ("zstd", "--version")),
    ("tar", ("tar", "--version")),
    ("rsync", ("rsync", "--version")),
    ("borg", ("borg", "--version")),
    ("restic", ("restic", "version")),
    ("virsh", ("virsh", "--version")),
    ("qemu-img", ("qemu-img", "--version")),
    ("nbdkit", ("nbdkit", "--version")),
    ("nbdcopy", ("nbdcopy", "--version")),
    ("rbd", ("rbd", "--version")),
    ("rclone", ("rclone", "--version")),
    ("cp", ("cp", "--version")),
    ("fallocate", ("fallocate", "--version")),
)


def this_machine(place: Place) -> Machine:
    versions = {"virtstore": _ours(), "Python": platform.python_version()}
    versions.update((name, _version(argv)) for name, argv in _ASK)
    return Machine(
        date=time.strftime("%Y-%m-%d"),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        file_system=_said(("findmnt", "-n", "-o", "FSTYPE", "-T", str(place.a))),
        versions=versions,
    )


def _ours() -> str:
    commit = _said(("git", "describe", "--always", "--dirty"))
    return f"{__version__} ({commit})" if commit else __version__


def _version(argv: tuple[str, ...]) -> str:
    if not find(argv[0]):
        return "not here"
    return _said(argv) or "does not say"


def _said(argv: tuple[str, ...]) -> str:
    """The first line of what a program prints, wherever it prints it."""
    program = find(argv[0])
    if not program:
        return ""
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines and not done.returncode else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
