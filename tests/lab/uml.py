"""Boots user-mode Linux to run a command as root, and cuts its power.

A `Lab` is a set of disks: sparse files in a directory of its own. Each `run` boots a kernel
on them, runs one command, shuts down, and gives back what the command said, byte for byte:

    lab = Lab(tmp_path, disks=[256 << 20])
    lab.run("mkfs.ext4 -q /dev/ubda").check()
    lab.power_cut("mount /dev/ubda /mnt && touch /mnt/a && sync && echo now && sleep 9", at="now")
    lab.run("mount /dev/ubda /mnt && ls /mnt").check()

The disks are /dev/ubda, /dev/ubdb, … in there; /run/lab is a directory shared with the
outside (`Machine.directory`). What the kernel had written to a disk when its power was cut
is in the disk's file; what it held in memory is gone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .machine import Machine, Output, Result

CHECKOUT: Final = Path(__file__).resolve().parents[2]

#: What the lab runs, and the Debian packages that have it.
PACKAGES: Final = {
    "linux.uml": "user-mode-linux",
    "gcc": "gcc libc6-dev",
    "udevadm": "udev",
    "modprobe": "kmod",
    "lvm": "lvm2",
    "dmsetup": "dmsetup",
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
}

_INIT: Final = Path(__file__).with_name("init")
_FSTAB: Final = Path(__file__).with_name("fstab")
_REGISTERS: Final = Path(__file__).with_name("registers.c")


def missing_packages() -> tuple[str, ...]:
    """The Debian packages that this machine would need for the lab and has not."""
    path = "/usr/bin:/usr/sbin:/bin:/sbin"
    return tuple(p for program, p in PACKAGES.items() if not shutil.which(program, path=path))


class Lab:
    """Disks, and a kernel that boots on them as often as it is asked to.

    `directory` must be empty or new, and its path without blanks, commas and colons (it goes
    over the kernel's command line, and into LD_PRELOAD). `disks` are sizes in bytes, at most 8.
    """

    def __init__(
        self,
        directory: Path,
        disks: Sequence[int] = (1 << 30, 1 << 30),
        *,
        memory: int = 1 << 30,
    ) -> None:
        self.directory = directory.resolve()
        self.memory = memory
        self.disks = tuple(self.directory / f"ubd{'abcdefgh'[n]}.img" for n in range(len(disks)))
        self._boots = 0
        self.directory.mkdir(exist_ok=True)
        for path, size in zip(self.disks, disks, strict=True):
            path.touch(exist_ok=False)
            os.truncate(path, size)

    def run(self, command: str | Sequence[str], *, timeout: float = 120) -> Result:
        """Boot, run a command (a shell script, or an argv), shut down. `timeout` seconds
        include booting. Raises `Hung` or `Crashed`."""
        with self.boot(command) as machine:
            return machine.wait(timeout)

    def power_cut(
        self, command: str | Sequence[str], *, at: str | float, timeout: float = 120
    ) -> Output:
        """Boot, run a command, and kill the kernel once the command has printed `at`, or
        has run for `at` seconds. Raises `Crashed` if it ends before."""
        with self.boot(command) as machine:
            if isinstance(at, str):
                machine.wait_for(at.encode(), timeout)
            else:
                machine.wait_for(b"started", timeout, on="control")
                time.sleep(at)
            machine.require_running()
            return machine.cut_power()

    def shell(self, command: str = "exec bash -i") -> int:
        """Boot and give the command this process's terminal. Returns its exit status."""
        size = os.get_terminal_size(0)
        script = f"stty rows {size.lines} columns {size.columns}\n"
        script += f"export TERM={shlex.quote(os.environ.get('TERM', 'linux'))}\n{command}"
        with self.boot(script, terminal=True) as machine:
            return machine.wait(float("inf")).status

    @contextmanager
    def boot(self, command: str | Sequence[str], *, terminal: bool = False) -> Iterator[Machine]:
        """A machine that runs a command. Leaving the block cuts the power of one that runs."""
        self._boots += 1
        directory = self.directory / f"boot-{self._boots}"
        directory.mkdir()
        line = command if isinstance(command, str) else shlex.join(command)
        (directory / "command").write_text(_script(line))
        (directory / "fstab").write_text(_fstab(directory))
        if terminal:
            (directory / "shell").touch()
        machine = Machine(directory, _start(self, directory, terminal=terminal))
        try:
            yield machine
        finally:
            machine.cut_power()


def _start(lab: Lab, directory: Path, *, terminal: bool) -> subprocess.Popen[bytes]:
    lines = {"stdout": "ssl1", "stderr": "ssl2", "control": "ssl3"}
    files = {line: _create(directory / name) for name, line in lines.items()}
    tty = [os.dup(0), os.dup(1)] if terminal else []
    argv = [
        # However we end, it ends with us.
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("linux.uml", f"mem={lab.memory >> 20}M", "umid=uml", f"uml_dir={directory}"),
        # A root that is no device, else the root file system would claim to be /dev/ubda.
        *("root=lab", "rootfstype=hostfs", "rootflags=/", "ro", f"init={_INIT}"),
        *(f"LAB={directory}", "noreboot", "con=null", "con0=null,fd:1", "ssl=null"),
        *(f"{line}=null,fd:{fd}" for line, fd in files.items()),
        *([f"ssl0=fd:{tty[0]},fd:{tty[1]}"] if terminal else []),
        # Relative: a disk's path may not have commas or colons.
        *(f"ubd{n}={path.name}" for n, path in enumerate(lab.disks)),
    ]
    fds = [*files.values(), *tty]
    console = _create(directory / "console")
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=fds,
            cwd=lab.directory,
            env={"PATH": os.defpath, "LD_PRELOAD": _registers(lab), **_memory_place(lab)},
            start_new_session=True,
        )
    finally:
        for fd in (*fds, console):
            os.close(fd)
    os.sched_setaffinity(process.pid, {_processor()})
    return process


def _processor() -> int:
    """The one that a kernel and its processes run on. It has a single one in there; out here,
    where each of its system calls is a switch between two processes, waking the other one on
    another processor costs a quarter more time. pytest's workers have one each, in turn."""
    allowed = sorted(os.sched_getaffinity(0))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return allowed[int(worker) % len(allowed)]


def _registers(lab: Lab) -> str:
    """A library without which the kernel does not boot on some processors (registers.c)."""
    library = lab.directory / "registers.so"
    if not library.exists():
        argv = ["gcc", "-shared", "-fPIC", "-o", str(library), str(_REGISTERS)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return str(library)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


def _memory_place(lab: Lab) -> dict[str, str]:
    """Where the kernel's memory lies: a file in /dev/shm, unless that is smaller (as it is
    in a container), for a kernel whose memory cannot be had dies of SIGBUS."""
    room = os.statvfs("/dev/shm")
    fits = room.f_bavail * room.f_bsize > lab.memory
    return {} if fits else {"TMPDIR": str(lab.directory)}


def _script(command: str) -> str:
    bin_directory = Path(sys.executable).parent
    return "\n".join(
        [
            f"cd {shlex.quote(str(CHECKOUT))}",
            f'export PATH={shlex.quote(str(bin_directory))}:"$PATH"',
            "export VIRTSTORE_LAB=/run/lab PYTHONDONTWRITEBYTECODE=1",
            *(["export VIRTSTORE_TORTURE=1"] if "VIRTSTORE_TORTURE" in os.environ else []),
            command,
            "",
        ]
    )


def _fstab(directory: Path) -> str:
    """The lab's mounts: its own, the shared directory, and what they hide and is needed."""
    own = _FSTAB.read_text()
    targets = [line.split()[1] for line in own.splitlines() if line.startswith("tmpfs")]
    needed = {Path(sys.prefix), Path(sys.base_prefix), CHECKOUT}
    hidden = sorted(p for p in needed if any(p.is_relative_to(t) for t in targets))
    shared = [("/run/lab", directory, "rw"), *((path, path, "ro") for path in hidden)]
    return own + "".join(
        f"hostfs {at} hostfs {mode},X-mount.mkdir,{source} 0 0\n" for at, source, mode in shared
    )
