"""The pages as a reader follows them: their commands are run, and what they print is compared.

A page's blocks (shown.py) run in order, in one shell and one directory. The places that the page
names are below that directory: `/srv` and `/etc/virtstore` of this machine and of each host. Hosts
have a real sshd each, for the pages that name one. A page that names the volume group vg0 runs in
the lab, one that names an RBD pool with a cluster of the ring `ceph`. A page that names an S3
service has one of this machine, with the bucket `vm-backups`.

    python -m tests.pages PAGE…     writes what the commands print into the pages, but for those
                                    that need the lab or a cluster
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import moto_server
from .hosts.sshd import Remote, make_keys, running_host, ssh_config
from .shown import ROOT, Block, Command, blocks, commands, ring_of

_HOSTS: Final = ("a", "b")
#: What pages call places, each below a directory of a host's own.
_PLACES: Final = "srv|etc/virtstore|etc/ceph|var/lib/libvirt"
_MARK: Final = "----"
#: What pages call an S3 service.
_SERVICE: Final = "https://s3.example.com"
#: Behind each command; the next one finds that one's status in `$?`.
_MARKING: Final = f"_mark() {{ local status=$?; echo; echo {_MARK}; return $status; }}"
_BIN: Final = str(Path(sys.executable).parent)


@dataclass(frozen=True)
class Place:
    """Where a page's blocks run: the reader's directory, the hosts by name, and the endpoint of an
    S3 service ("": there is none)."""

    home: Path
    hosts: dict[str, Remote]
    service: str = ""

    def real(self, command: Command) -> str:
        """A command for this machine."""
        typed = command.typed.replace("$PWD/.venv/bin", _BIN).replace(_SERVICE, self.service)
        for name, host in self.hosts.items():
            # As a location, and as the image of a session that is called like the host.
            typed = re.sub(
                rf'(?<![\w/])({name}(?::|\.\w+\("))/({_PLACES})\b',
                rf"\g<1>{host.directory}/\g<2>",
                typed,
            )
        own = self.hosts[command.host].directory if command.host else self.home
        typed = re.sub(rf"(?<![\w/.~])/({_PLACES})\b", rf"{own}/\1", typed)
        if command.host:
            return f"ssh {command.host} {shlex.quote(typed)}"
        return typed

    def shown(self, text: str) -> str:
        """What was printed, as a page shows it."""
        text = text.replace(self.service, _SERVICE) if self.service else text
        for directory in (self.home, *(host.directory for host in self.hosts.values())):
            text = re.sub(rf"{re.escape(str(directory))}/({_PLACES})\b", r"/\1", text)
        text = text.replace(str(self.home), "/home/you")
        text = re.sub(
            rf"^(owner: +| *\"owner\": \"){getpass.getuser()}\b", r"\1you", text, flags=re.M
        )
        return re.sub(r"[^\s:]*/virtstore-agent\b", "virtstore-agent", text)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.home}/bin:{_BIN}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "VIRTSTORE_CONFIG": f"{self.home}/etc/virtstore/config.toml",
            "TMPDIR": str(self.home),
        }


@contextmanager
def place(directory: Path, *, with_hosts: bool, with_service: bool = False) -> Iterator[Place]:
    """A place below an empty directory."""
    home = directory / "home"
    for each in (home / "srv", home / "etc/virtstore", home / "bin"):
        each.mkdir(mode=0o755, parents=True)
    with ExitStack() as stack:
        hosts: dict[str, Remote] = {}
        if with_hosts:
            keys = directory / "keys"
            keys.mkdir()
            make_keys(keys)
            for name in _HOSTS:
                own = directory / name
                for each in (own / "srv", own / "etc/virtstore"):
                    each.mkdir(mode=0o755, parents=True)
                running = running_host(name, own, keys, home / "bin")
                hosts[name] = stack.enter_context(running)
            _introduce(home, hosts, keys)
        service = ""
        if with_service:
            moto = stack.enter_context(moto_server.running(directory / "moto.log"))
            service = moto.bucket("vm-backups").endpoint
        yield Place(home, hosts, service)


def _place_of(text: str, directory: Path) -> AbstractContextManager[Place]:
    """The place that a page needs."""
    hosts = ring_of(text) == "hosts"
    return place(directory, with_hosts=hosts, with_service=_SERVICE in text)


def _introduce(home: Path, hosts: dict[str, Remote], keys: Path) -> None:
    """Let ssh and virtstore on the reader's machine find the hosts and what is configured there."""
    (home / "ssh_config").write_text(ssh_config(tuple(hosts.values()), keys))
    ssh = home / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    agents = home / ".config" / "virtstore" / "hosts.toml"
    agents.parent.mkdir(parents=True)
    agents.write_text(
        "".join(
            f'[hosts.{name}]\nagent = "virtstore-agent --config'
            f' {host.directory}/etc/virtstore/config.toml"\n'
            for name, host in hosts.items()
        )
    )


@dataclass(frozen=True)
class Ran:
    """A command of a block, and what it printed."""

    block: Block
    command: Command
    printed: str


def run(text: str, where: Place) -> list[Ran]:
    """Run a page's blocks."""
    wanted = [(b, c) for b in blocks(text) if b.runs for c in commands(b)]
    script = "".join(
        f"{where.real(command)}\n"
        + ("[ $? = 0 ] || echo FAILED\n" if command.shown is None else "")
        + "_mark\n"
        for _, command in wanted
    )
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{_MARKING}\n{script}"],
        env=where.environment,
        cwd=ROOT if "$PWD/.venv" in text else where.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
        timeout=600,
    )
    printed = done.stdout.decode().split(f"\n{_MARK}\n")
    assert len(printed) == len(wanted) + 1, done.stdout.decode()
    pairs = zip(wanted, printed, strict=False)
    return [Ran(block, command, where.shown(said)) for (block, command), said in pairs]


def shape(text: str) -> list[str]:
    """Lines without what differs from machine to machine: sizes, times, digests, keys, columns."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"\bage1[0-9a-z]+", "KEY", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    text = re.sub(r"[0-9]+(\.[0-9]+)?( [KMGT]?i?B\b)?", "N", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def check(page: Path, directory: Path) -> None:
    """What every command of a page prints is what the page shows."""
    with _place_of(page.read_text(), directory) as where:
        check_in(page, where)


def check_in(page: Path, where: Place) -> None:
    """The same, in a place that is there."""
    for each in run(page.read_text(), where):
        said = f"{page.name}: {each.command.typed}\n{each.printed}"
        if each.command.shown is None:
            assert "FAILED" not in each.printed, said
        else:
            assert shape(each.printed) == shape("\n".join(each.command.shown)), said


def write(page: Path) -> None:
    """Put what the commands print into the page."""
    text = page.read_text()
    if (ring := ring_of(text)) not in ("tools", "hosts"):
        sys.exit(f"{page}: its commands need the ring {ring}, and would fail here; edit it by hand")
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o755)
        with _place_of(text, Path(temporary)) as where:
            write_in(page, where)


def write_in(page: Path, where: Place) -> None:
    """The same, in a place that is there."""
    text = page.read_text()
    ran = run(text, where)
    for block in reversed([each for each in blocks(text) if each.runs]):
        parts = [each for each in ran if each.block == block]
        if block.language != "console":
            sys.stdout.write("".join(f"{each.command.typed}\n{each.printed}\n" for each in parts))
            continue
        lines = [_told(each) for each in parts]
        text = text[: block.start] + "".join(lines) + text[block.end :]
    page.write_text(text)


def _told(ran: Ran) -> str:
    prompt = f"{ran.command.host}#" if ran.command.host else "$"
    printed = ran.printed.rstrip("\n")
    return f"{prompt} {ran.command.typed}\n" + (f"{printed}\n" if printed else "")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(Path(name).resolve())
