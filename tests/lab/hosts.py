"""Two hosts in the lab, `a` and `b`: a network, an sshd and a configuration each.

A host is a network namespace on a bridge that the lab's own network is on too, and an sshd
started there by `ip netns exec`, which binds /etc/netns/NAME/* over /etc/* for it: so each
has an /etc/virtstore of its own, which the lab sees as `Host.configuration`. They share the
kernel and with it the disks and volume groups; what is whose, their configurations say.

`ssh -F CONFIG a` reaches them by name, as root, by key, from the lab and from each other.
Keys are made each time and lie, like everything else here, in tmpfs.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..waiting import PATIENCE

_ADDRESSES: Final = {"a": "10.99.0.11", "b": "10.99.0.12"}
_OUTSIDE: Final = "10.99.0.1"
_BRIDGE: Final = "lab-bridge"

_SSHD: Final = """
HostKey {directory}/{name}-key
AuthorizedKeysFile {directory}/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PidFile none
SetEnv PATH={path}
"""

_SSH: Final = """
Host {name}
    HostName {address}
    HostKeyAlias {name}
    User root
    IdentityFile {directory}/key
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""


@dataclass(frozen=True)
class Host:
    """One of the two. `configuration`: its /etc/virtstore/config.toml, as a path for us."""

    name: str
    address: str
    configuration: Path


@dataclass(frozen=True)
class Hosts:
    """Both, and the ssh configuration that knows them. `outside`: the lab's own address on their
    network."""

    a: Host
    b: Host
    ssh_config: Path
    outside: str = _OUTSIDE

    @property
    def rsh(self) -> str:
        """A value for VIRTSTORE_RSH."""
        return f"ssh -F {shlex.quote(str(self.ssh_config))}"

    def ssh(self, host: Host, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a shell line on a host."""
        argv = ["ssh", "-F", str(self.ssh_config), host.name, command]
        return subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )


@contextmanager
def two_hosts(directory: Path) -> Iterator[Hosts]:
    """Set up both in an empty `directory`, and take them down after."""
    _make_keys(directory)
    with ExitStack() as stack:
        stack.enter_context(_network())
        hosts = {name: stack.enter_context(_host(directory, name)) for name in _ADDRESSES}
        yield Hosts(hosts["a"], hosts["b"], directory / "ssh_config")


def _make_keys(directory: Path) -> None:
    for file in ("key", *(f"{name}-key" for name in _ADDRESSES)):
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / file))
    known = [f"{name} {(directory / f'{name}-key.pub').read_text()}" for name in _ADDRESSES]
    (directory / "known_hosts").write_text("".join(known))
    entries = [
        _SSH.format(name=name, address=address, directory=directory)
        for name, address in _ADDRESSES.items()
    ]
    (directory / "ssh_config").write_text("".join(entries))


@contextmanager
def _network() -> Iterator[None]:
    """The bridge, with the lab itself on it."""
    _ip(f"link add {_BRIDGE} type bridge", f"address add {_OUTSIDE}/24 dev {_BRIDGE}")
    _ip(f"link set {_BRIDGE} up")
    try:
        yield
    finally:
        _ip(f"link delete {_BRIDGE}")


@contextmanager
def _host(directory: Path, name: str) -> Iterator[Host]:
    address = _ADDRESSES[name]
    # There before sshd is started: `ip netns exec` binds what it finds.
    configuration = Path(f"/etc/netns/{name}/virtstore/config.toml")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.touch()
    _ip(
        f"netns add {name}",
        f"link add lab-{name} master {_BRIDGE} up type veth peer name eth0 netns {name}",
    )
    try:
        _ip(f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up", inside=name)
        with _sshd(directory, name):
            _wait_for_port(address)
            yield Host(name, address, configuration)
    finally:
        # A namespace stays until its last process is gone; its network need not.
        _ip(f"link delete lab-{name}", f"netns delete {name}")


@contextmanager
def _sshd(directory: Path, name: str) -> Iterator[None]:
    config = directory / f"{name}-sshd_config"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    config.write_text(_SSHD.format(directory=directory, name=name, path=path))
    argv = ["ip", "netns", "exec", name, "/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
    with (directory / f"{name}-sshd.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _wait_for_port(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((address, 22), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _ip(*commands: str, inside: str | None = None) -> None:
    where: Sequence[str] = ["-netns", inside] if inside else []
    _call("ip", *where, "-batch", "-", said="\n".join(commands))


def _call(*argv: str, said: str = "") -> None:
    done = subprocess.run(argv, input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(argv)}: {said}\n{done.stdout}{done.stderr}")
