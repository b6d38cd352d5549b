"""Two hosts on this machine, `a` and `b`: an sshd each, on loopback, and what it serves.

A host is a port, a host key, an authorized_keys file, a log, a configuration of virtstore
and a tree of directories. It runs as whoever runs the tests, root or not. Its sshd gives
every session a home directory without anybody's login scripts, and a PATH that begins with
a directory of ours: by that, whatever a session started is found again (processes.py), and
programs that are put there are the host's.

Host tools needed: openssh-server, openssh-client.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import waiting
from ..waiting import PATIENCE
from . import processes

#: What a client may identify itself with. `key` opens a shell; the others' lines are below.
_KEYS: Final = ("key", "noisy", "append", "read", "stranger")

_SSHD: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host-key
AuthorizedKeysFile {directory}/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile {directory}/sshd.pid
MaxStartups 100
LogLevel VERBOSE
KexAlgorithms curve25519-sha256
SetEnv HOME={directory} PATH={path}
AcceptEnv VIRTSTORE_* XDG_* PYTHON*
"""

_CONFIGURATION: Final = """
[[directory]]
path = "{tree}/images"
access = "write"

[[directory]]
path = "{tree}/golden"
access = "read"

[[directory]]
path = "{tree}/drop"
access = "append"

[[directory]]
path = "{tree}/small"
access = "write"
volatile = true
"""

_SSH: Final = """
Host {name}
    HostName 127.0.0.1
    Port {port}
    HostKeyAlias {alias}
    User {user}
    IdentityFile {keys}/{key}
    IdentitiesOnly yes
    UserKnownHostsFile {keys}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""


@dataclass(frozen=True)
class Remote:
    """A host: what lies where. `small` may have another file system mounted on it."""

    name: str
    port: int
    directory: Path

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def images(self) -> Path:
        """Allowed: everything."""
        return self.tree / "images"

    @property
    def golden(self) -> Path:
        """Allowed: reading."""
        return self.tree / "golden"

    @property
    def drop(self) -> Path:
        """Allowed: making new images."""
        return self.tree / "drop"

    @property
    def small(self) -> Path:
        return self.tree / "small"

    @property
    def outside(self) -> Path:
        """Not allowed."""
        return self.tree / "outside"

    @property
    def configuration(self) -> Path:
        return self.directory / "config.toml"

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    @property
    def sshd(self) -> int:
        """The process id of the sshd that listens."""
        return int((self.directory / "sshd.pid").read_text())

    def logins(self, *, still_open: int = 0) -> int:
        """How often somebody has authenticated here, once only `still_open` connections are left.
        A client that has ended may have sent all that the sshd needs to let it in a moment later.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as last:
            last.recv(1)  # it has been accepted, and so has every connection before it
        waiting.until(
            lambda: len(processes.served(self.sshd)) <= still_open,
            f"connections to {self.name} to end",
        )
        return self.log.read_text().count("Accepted publickey for ")

    def at(self, path: Path, as_: str = "") -> str:
        """A path of this host as a location; `as_`: another of the host's names in hosts.toml."""
        return f"{as_ or self.name}:{path}"


def needed() -> tuple[str, ...]:
    """The Debian packages that are missing for this ring."""
    wanted = {"sshd": "openssh-server", "ssh": "openssh-client", "mke2fs": "e2fsprogs"}
    return tuple(package for tool, package in wanted.items() if find(tool) is None)


def find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")


def make_keys(directory: Path) -> None:
    for name in _KEYS:
        make_key(directory / name)


@contextmanager
def running_host(name: str, directory: Path, keys: Path, programs: Path) -> Iterator[Remote]:
    """A host in an empty `directory`, from listening to gone."""
    host = Remote(name, free_port(), directory)
    for each in (host.images, host.golden, host.drop, host.small, host.outside):
        each.mkdir(parents=True)
        each.chmod(0o755)
    host.configuration.write_text(_CONFIGURATION.format(tree=host.tree))
    host.configuration.chmod(0o600)
    make_key(directory / "host-key")
    (directory / "authorized_keys").write_text(_authorized_keys(host, keys, programs))
    (directory / "authorized_keys").chmod(0o600)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    (directory / "sshd_config").write_text(
        _SSHD.format(port=host.port, directory=directory, path=path)
    )
    with serving(host):
        yield host


def ssh_config(hosts: tuple[Remote, ...], keys: Path, *, more: str = "") -> str:
    """A client's configuration: each host by its name with `key`, and as `NAME-KEY` with any
    other key. `more`: further lines for every host."""
    known = [f"{h.name} {(h.directory / 'host-key.pub').read_text()}" for h in hosts]
    (keys / "known_hosts").write_text("".join(known))
    entries = [
        _SSH.format(
            name=host.name if key == "key" else f"{host.name}-{key}",
            alias=host.name,
            port=host.port,
            user=getpass.getuser(),
            keys=keys,
            key=key,
        )
        for host in hosts
        for key in _KEYS
    ]
    return "".join(entry + more for entry in entries)


def _authorized_keys(host: Remote, keys: Path, programs: Path) -> str:
    """Everyone but the stranger."""
    lines = {
        "key": "",
        "noisy": f'command="{programs}/noisy-login" ',
        "append": 'restrict,command="virtstore-agent --access append'
        f' --config {host.configuration} --restrict-to {host.images}/backups" ',
        "read": f'restrict,command="virtstore-agent --access read --config {host.configuration}" ',
    }
    return "".join(options + (keys / f"{name}.pub").read_text() for name, options in lines.items())


@contextmanager
def serving(host: Remote, *before: str) -> Iterator[None]:
    """Its sshd is there, from listening to gone. `before`: words that start it otherwise."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists, as root
    program = find("sshd")
    assert program, "sshd is not installed (openssh-server)"
    config, log = host.directory / "sshd_config", host.log
    log.touch()
    process = subprocess.Popen(
        [*before, program, "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL
    )
    try:
        _wait_for_port(process, host)
        yield
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _wait_for_port(process: subprocess.Popen[bytes], host: Remote) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", host.port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {host.log.read_text()}") from None
            time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
