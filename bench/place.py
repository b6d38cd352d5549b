"""Where the benchmarks run: two hosts on loopback, each with a directory for images.

`ssh` and `scp` are found first in a directory of ours and know these hosts, so every command
here is what one would type: `ssh b …`. The local side works in host a's directory; `warm` is
host b over a connection that is open already.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from demo.loopback import Hosts, find

from bench import libvirt
from bench.model import Failed
from bench.processes import children

#: Free bytes that the inputs and the copies of them need at most.
ROOM = 36 << 30

#: The variable that names the file in which ssh is to say how many bytes it moved.
WIRE = "BENCH_SSH_LOG"

#: What stands for this run's paths in the report.
_SHOWN = {
    "a": "/a",
    "b": "/b",
    "size": "4G",
    "new": "/a/new.img",
    "kept": "/xfs",
    "libvirt": "storage+ssh://b/system",
    "nbdcopy": "/run/nbdcopy",
    "nbdkit": "/run/nbdkit",
}


@dataclass(frozen=True)
class Place:
    """`a` and `b` are the hosts' directories, `scratch` a directory for everything else,
    `scale` what all sizes are divided by, `troubles` why a program cannot be used here."""

    a: Path
    b: Path
    scratch: Path
    environment: dict[str, str]
    sshd: tuple[int, ...]
    daemons: tuple[int, ...]
    scale: int
    names: dict[str, str]
    troubles: dict[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """A command as it is run."""
        return text.format(a=self.a, b=self.b, **self.names)

    def shown(self, text: str) -> str:
        """The same as somebody would type it on a host with short paths."""
        return text.format(**{**self.names, **_SHOWN})

    def path(self, text: str) -> Path:
        return Path(self.real(text))

    def trouble(self, programs: tuple[str, ...]) -> str:
        """Why a command with these programs cannot be run; nothing if it can."""
        for program in programs:
            if program in self.troubles:
                return self.troubles[program]
            if not find(program):
                return f"not here: {program}"
        return ""

    def connections(self) -> int:
        return sum(len(children(pid)) for pid in self.sshd)

    def settle(self, connections: int, seconds: float = 15) -> None:
        """Wait until the connections are as many as they were: no agent is at work."""
        deadline = time.monotonic() + seconds
        while self.connections() > connections:
            if time.monotonic() > deadline:
                raise Failed(f"a connection is still open after {seconds:.0f} s")
            time.sleep(0.002)


@contextmanager
def opened(directory: Path | None, *, small: bool) -> Iterator[Place]:
    """Hosts that run, in `directory`, which is kept, or in a temporary one."""
    scale = 16 if small else 1
    with ExitStack() as stack:
        scratch = stack.enter_context(_temporary(directory))
        images = directory / "virtstore-bench" if directory else scratch
        if shutil.disk_usage(scratch).free < ROOM // scale:
            raise SystemExit(f"{images} has less than {ROOM // scale >> 30} GiB free")
        if directory:
            _empty(images / "b")
        hosts = stack.enter_context(Hosts(scratch, ("a", "b"), images=images))
        if not hosts.real:
            raise SystemExit("the benchmarks need sshd; 'dev/packages bench' names packages")
        _add_warm_host(scratch)
        environment = _environment(hosts, scratch)
        troubles: dict[str, str] = {}
        server = stack.enter_context(libvirt.served(scratch, hosts.directory("b"), environment))
        if server.trouble:
            troubles["virsh"] = server.trouble
        place = Place(
            a=hosts.directory("a"),
            b=hosts.directory("b"),
            scratch=scratch,
            environment=environment,
            sshd=tuple(hosts.daemons),
            daemons=(*hosts.daemons, *server.pids),
            scale=scale,
            names={
                "size": str((4 << 30) // scale),
                "libvirt": server.uri,
                "nbdcopy": str(scratch / "nbdcopy"),
                "nbdkit": str(scratch / "nbdkit"),
            },
            troubles=troubles,
        )
        try:
            yield place
        finally:
            with suppress(Failed):  # agents of commands that were interrupted
                place.settle(0)


@contextmanager
def _temporary(directory: Path | None) -> Iterator[Path]:
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
    parent = directory or os.environ.get("TMPDIR", "/var/tmp")
    base = Path(tempfile.mkdtemp(prefix="virtstore-bench-", dir=parent))
    try:
        yield base
    finally:
        shutil.rmtree(base)


def _empty(directory: Path) -> None:
    """Only host a's directory has inputs; what is in b's an interrupted run left."""
    if directory.exists():
        shutil.rmtree(directory)


def _add_warm_host(base: Path) -> None:
    config = base / "keys" / "ssh_config"
    block = config.read_text().partition("Host b\n")[2]
    with config.open("a") as file:
        file.write(f"\nHost warm\n  ControlPath {base}/warm\n  ControlMaster no\n{block}")
    hosts = base / "config" / "virtstore" / "hosts.toml"
    agent = hosts.read_text().partition("[hosts.b]\n")[2]
    with hosts.open("a") as file:
        file.write(f"\n[hosts.warm]\n{agent}")


def _environment(hosts: Hosts, base: Path) -> dict[str, str]:
    """Everything that a command needs to reach the hosts, and virtstore first in its PATH."""
    programs = base / "bin"
    programs.mkdir()
    for name in ("ssh", "scp"):
        real = shutil.which(name) or name
        program = programs / name
        config = base / "keys" / "ssh_config"
        program.write_text(
            f'#!/bin/sh\nexec {real} -F {config} ${{{WIRE}:+-v -E "${WIRE}"}} "$@"\n'
        )
        program.chmod(0o700)
    ours = Path(sys.executable).parent
    inherited = os.environ.get("PATH", os.defpath)
    environment = dict(hosts.environment, LC_ALL="C.UTF-8")
    environment.pop("VIRTSTORE_RSH", None)
    for variable in ("SUDO_UID", "SUDO_USER", "SSH_CONNECTION"):  # else it would not be heeded
        environment.pop(variable, None)
    environment["VIRTSTORE_CONFIG"] = str(base / "a" / "config.toml")
    environment["PATH"] = f"{programs}:{ours}:{inherited}:/usr/local/sbin:/usr/sbin:/sbin"
    return environment
