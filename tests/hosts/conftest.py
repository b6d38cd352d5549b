"""The `hosts` ring: hosts `a` and `b` behind an sshd each, and a client that knows them.

Without what the ring needs its tests fail and name the packages; nothing skips, so that a
ring that did not run is not taken for one that passed.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ..libvirt_fixture import libvirt, libvirtd  # noqa: F401
from .command import Client
from .sshd import Remote, find, make_keys, needed, running_host, ssh_config
from .trees import MIB, Found, empty, snapshot

#: Longest file that the agent of `b-limited` can make.
FILE_LIMIT: Final = 4 * MIB

#: What is in the largest file of the golden image.
CONTENTS: Final = random.Random(7).randbytes(3 * MIB)

#: Agents by the name under which the client knows them (hosts.toml); `{x}` is filled in.
_AGENTS: Final = """
[hosts.a]
agent = "virtstore-agent --config {a}"
[hosts.b]
agent = "virtstore-agent --config {b}"
[hosts.a-noisy]
agent = "virtstore-agent --config {a}"
[hosts.a-bare]
address = "a"
[hosts.a-without]
address = "a"
agent = "virtstore-agent-that-is-not-there"
[hosts.a-newer]
address = "a"
agent = "newer-agent"
[hosts.b-limited]
address = "b"
agent = "prlimit --fsize={limit} virtstore-agent --config {b}"
[hosts.b-append]
agent = "virtstore-agent --config {everything}"
[hosts.b-read]
agent = "virtstore-agent --config {everything}"
[hosts.nowhere]
address = "virtstore.invalid"
"""

_NEWER_AGENT: Final = """#!{python}
import sys
from virtstore.frames import encode
from virtstore.protocol import PREAMBLE, Hello
sys.stdout.buffer.write(PREAMBLE + encode(Hello("99.0", 999, 999)))
sys.stdout.flush()
sys.stdin.buffer.read()
"""

_NOISY_LOGIN: Final = """#!/bin/sh
echo "Welcome to this host!"
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


@dataclass(frozen=True)
class Hosts:
    """Both hosts and the client's machine. `directory` is named by every process of a run."""

    a: Remote
    b: Remote
    local: Path
    directory: Path
    keys: Path

    def snapshot(self) -> dict[str, Found]:
        return snapshot(self.a.tree, self.b.tree, self.local)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if missing := needed():
        pytest.fail(f"the hosts ring needs: apt-get install {' '.join(missing)}", pytrace=False)


@pytest.fixture(scope="session")
def all_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    base = tmp_path_factory.mktemp("hosts")
    base.chmod(0o755)
    directories = {name: base / name for name in ("a", "b", "keys", "bin", "client", "local")}
    for each in directories.values():
        each.mkdir(mode=0o755)
    keys, programs = directories["keys"], directories["bin"]
    make_keys(keys)
    _write_program(programs / "newer-agent", _NEWER_AGENT.format(python=sys.executable))
    _write_program(programs / "noisy-login", _NOISY_LOGIN)
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(running_host(name, directories[name], keys, programs))
            for name in ("a", "b")
        )
        hosts = Hosts(a, b, directories["local"], base, keys)
        _configure_client(hosts)
        yield hosts


@pytest.fixture
def hosts(all_hosts: Hosts) -> Iterator[Hosts]:
    """The hosts, emptied of what a test left there."""
    yield all_hosts
    for host in (all_hosts.a, all_hosts.b):
        for directory in (host.images, host.drop, host.outside, host.golden):
            empty(directory)
    empty(all_hosts.local)


@pytest.fixture
def a(hosts: Hosts) -> Remote:
    return hosts.a


@pytest.fixture
def b(hosts: Hosts) -> Remote:
    return hosts.b


@pytest.fixture
def client(hosts: Hosts) -> Iterator[Client]:
    client = Client(client_environment(hosts))
    yield client
    client.close()


Refused = Callable[..., dict[str, str]]


@pytest.fixture
def refused(client: Client, hosts: Hosts) -> Refused:
    """Runs a command that must fail with a code, say why, and leave every tree as it was."""

    def refused(code: str, *words: str | Path, says: str) -> dict[str, str]:
        before = hosts.snapshot()
        error = client.run(*words, "--json").error(code)
        assert re.search(says, error["message"], re.DOTALL), error
        assert hosts.snapshot() == before
        return error

    return refused


def client_environment(hosts: Hosts) -> dict[str, str]:
    client = hosts.directory / "client"
    return {
        "VIRTSTORE_RSH": f"ssh -F {client}/ssh_config",
        "VIRTSTORE_CONFIG": f"{client}/config.toml",
        "XDG_CONFIG_HOME": str(client),
        "TMPDIR": str(client),
    }


def random_image(path: Path, size: int, seed: int = 1) -> Path:
    """A file that nothing compresses, the same each time."""
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


@pytest.fixture(scope="session")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 file system of 24 MiB with files in it, in an image of that size."""
    base = tmp_path_factory.mktemp("golden")
    files = base / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc" / "hostname").write_text("golden\n")
    (files / "data").write_bytes(CONTENTS)
    image = base / "golden.img"
    mke2fs = find("mke2fs")
    assert mke2fs
    argv = [mke2fs, "-q", "-t", "ext4", "-d", str(files), "-L", "golden", str(image), "24M"]
    subprocess.run(argv, check=True, capture_output=True)
    return image


def _configure_client(hosts: Hosts) -> None:
    client = hosts.directory / "client"
    (client / "virtstore").mkdir()
    everything = client / "everything.toml"
    everything.write_text(f'[[directory]]\npath = "{hosts.directory}"\naccess = "write"\n')
    everything.chmod(0o600)
    own = client / "config.toml"
    own.write_text(f'[[directory]]\npath = "{hosts.local}"\naccess = "write"\n')
    own.chmod(0o600)
    (client / "virtstore" / "hosts.toml").write_text(
        _AGENTS.format(
            a=hosts.a.configuration,
            b=hosts.b.configuration,
            limit=FILE_LIMIT,
            everything=everything,
        )
    )
    (client / "ssh_config").write_text(ssh_config((hosts.a, hosts.b), hosts.keys))


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
