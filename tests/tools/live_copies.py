"""Live copies, for tests: who makes them, and what is there of their jobs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from tests import leftovers
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.waiting import until

import virtstore
from virtstore.client.connection import Connection
from virtstore.client.sessions import Sessions
from virtstore.copy_options import Quiesce
from virtstore.progress import Progress

#: Where QEMU's sockets are, on that host and as the tests see it.
SOCKETS: Final = "/var/lib/libvirt/qemu"
SEEN: Final = "var-lib/libvirt/qemu"
PATIENT = Path(__file__).with_name("patient_agent.py")


class Backups:
    """A directory for copies, and the agents of the host that has libvirt, which may make files in
    its pool. While the file `waits` is there, an agent waits in the middle of a copy."""

    def __init__(self, tmp_path: Path, libvirt: LibvirtHost) -> None:
        self.path = tmp_path / "backups"
        self.path.mkdir()
        self.waits = tmp_path / "waits"
        self.config = tmp_path / "config.toml"
        self.libvirt = libvirt
        self.allow({IMAGES: "append"})

    def allow(self, roots: dict[Path, str], more: str = "", *, copies: str = "write") -> None:
        """Which directories may be used beside that of the copies, with which access."""
        lines = [f'[[directory]]\npath = "{p}"\naccess = "{a}"\n{more}' for p, a in roots.items()]
        lines.append(f'[[directory]]\npath = "{self.path}"\naccess = "{copies}"\n')
        self.config.write_text("".join(lines))

    def agent(self) -> str:
        argv = [sys.executable, str(PATIENT), str(self.waits), "--config", str(self.config)]
        return shlex.join(self.libvirt.inside(*argv))

    def copy(
        self,
        image: str,
        name: str = "copy.img",
        *,
        archive: bool = False,
        quiesce: Quiesce = False,
        middle: Callable[[], object] | None = None,
        part: float = 0,
    ) -> virtstore.Copied:
        """Copy an image of the pool. `middle` is called when this part of it, or the first bytes,
        are there."""
        if middle:
            self.waits.write_text(str(part))

        def told(event: Progress) -> None:
            if event.done and event.done >= part * event.total and middle and self.waits.exists():
                try:
                    middle()
                finally:
                    self.waits.unlink()

        with virtstore.connect("local:") as host:
            source, target = host.image(f"{IMAGES}/{image}"), host.image(f"{self.path}/{name}")
            return source.copy(target, live=True, archive=archive, quiesce=quiesce, progress=told)


@pytest.fixture
def backups(tmp_path: Path, libvirt: LibvirtHost, monkeypatch: pytest.MonkeyPatch) -> Backups:
    backups = Backups(tmp_path, libvirt)
    monkeypatch.setenv("VIRTSTORE_AGENT", backups.agent())
    return backups


def job(libvirt: LibvirtHost, name: str) -> str | None:
    """The description of a domain's backup job, if it has one."""
    with suppress(AssertionError):
        return libvirt.virsh("backup-dumpxml", "--domain", name)
    return None


def begin_other_job(libvirt: LibvirtHost, name: str) -> str:
    """Begins a backup job that is no copy's; returns its description."""
    number = libvirt.virsh("domid", name)
    path = f"{SOCKETS}/domain-{number}-{name}/other.sock"
    xml = libvirt.directory / "job.xml"
    xml.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{path}'/><disks>"
        f"<disk name='vda' backup='yes' type='file'><scratch file='{IMAGES}/other.scratch'/>"
        "</disk></disks></domainbackup>"
    )
    libvirt.virsh("backup-begin", name, xml)
    return libvirt.virsh("backup-dumpxml", name)


def until_nothing_is_left(libvirt: LibvirtHost, name: str) -> None:
    """Waits for the end of a domain's job, its scratch file and its socket."""

    def is_over() -> bool:
        sockets = list((libvirt.directory / SEEN).glob("domain-*/virtstore-*"))
        return not (job(libvirt, name) or list(libvirt.images.glob("*.live-*")) or sockets)

    until(is_over, "the end of the domain's backup job")


@contextmanager
def remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Connection]]:
    """The sessions that are opened."""
    started: list[Connection] = []
    opened = Sessions.open

    def remember(host: Sessions, *, for_copy: bool = False) -> Connection:
        started.append(opened(host, for_copy=for_copy))
        return started[-1]

    with monkeypatch.context() as patched:
        patched.setattr(Sessions, "open", remember)
        yield started


def guards() -> list[int]:
    """The processes that end something of a domain's when their agent is gone."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"virtstore.libvirt.watch" in command.read_bytes():
                found.append(int(command.parts[2]))
    mark = f"{leftovers.MARK}={os.getpid()}".encode()
    return [pid for pid in found if mark in Path(f"/proc/{pid}/environ").read_bytes()]
