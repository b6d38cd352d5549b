"""Hosts behind ssh that are asked at once: those that cannot answer, and those that have to ask."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..waiting import until
from . import processes
from .command import Client, ended
from .conftest import Hosts
from .sshd import free_port

_PHRASE = "a phrase"
#: Seconds in which a host that answers does so, however busy the machine is.
_PLENTY = 10


@pytest.fixture
def knowing(client: Client, hosts: Hosts, tmp_path: Path) -> Callable[[str], Client]:
    """Makes a client that knows further hosts by lines of a configuration of ssh."""

    def knowing(lines: str) -> Client:
        config = tmp_path / "ssh_config"
        config.write_text(f"{lines}\nMatch all\nInclude {hosts.directory}/client/ssh_config\n")
        config.chmod(0o600)
        return client.having(VIRTSTORE_RSH=f"ssh -F {config}")

    return knowing


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """What accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield listening


def _reaching(name: str, port: int, more: str = "") -> str:
    return f"Host {name}\nHostName 127.0.0.1\nPort {port}\nBatchMode yes\n{more}"


def test_the_dead_and_the_silent_are_told_apart_and_hold_up_nobody(
    knowing: Callable[[str], Client], hosts: Hosts, mute: socket.socket
) -> None:
    port = mute.getsockname()[1]
    client = knowing(
        _reaching("refusing", free_port())
        + _reaching("mute", port, "ConnectTimeout 1\n")
        + _reaching("waiting", port, "ConnectTimeout 60\n")
    )
    names = ("waiting", "a", "mute", "refusing", "a-stranger", "a-without", "b")
    done = client.run("storage-info", *names, "--timeout", str(_PLENTY), "--json")
    assert done.status == 10
    told = [each.get("host") or each["error"]["message"] for each in done.json]
    assert (told[1], told[6]) == ("a", "b")
    assert f"no session with it could be opened within {_PLENTY} s" in told[0]
    assert "timed out" in told[2]
    assert "Connection refused" in told[3]
    assert "Permission denied" in told[4]
    assert "'virtstore install a-without' puts it there" in told[5]
    assert not processes.are_gone(hosts.directory)


def test_ctrl_c_leaves_no_ssh_of_many(
    knowing: Callable[[str], Client], hosts: Hosts, mute: socket.socket
) -> None:
    client = knowing(_reaching("mute-*", mute.getsockname()[1]))
    running = client.start("list", "-l", *(f"mute-{n}:" for n in range(20)), "a:", "--json")

    def reached() -> int:
        return sum("mute-" in each.arguments for each in _ssh(hosts))

    until(lambda: reached() == 20, "twenty ssh")
    running.send_signal(signal.SIGINT)  # to it alone, as kill(1) does
    assert ended(running).error("interrupted")
    assert not processes.are_gone(hosts.directory)


def _ssh(hosts: Hosts) -> list[processes.Running]:
    return [each for each in processes.of(hosts.directory) if each.name == "ssh"]


def test_hosts_whose_login_needs_an_answer_ask_one_after_the_other(
    knowing: Callable[[str], Client], hosts: Hosts, tmp_path: Path
) -> None:
    key, known = tmp_path / "key", hosts.a.directory / "authorized_keys"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", _PHRASE, "-f", str(key)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    asking = tmp_path / "asking"
    asking.write_text(
        f'#!/bin/sh\nmkdir {tmp_path}/now || exit 1\nsleep 0.1\necho "{_PHRASE}"\n'
        f"echo once >> {tmp_path}/asked\nrmdir {tmp_path}/now\n"
    )
    asking.chmod(0o755)
    before = known.read_text()
    line = f"\nIdentityFile {key}\nBatchMode no\nHostKeyAlias a\nIdentitiesOnly yes\n"
    line += (
        f"UserKnownHostsFile {hosts.keys}/known_hosts\nHostName 127.0.0.1\nPort {hosts.a.port}\n"
    )
    client = knowing("".join(f"Host asked-{n}{line}" for n in (1, 2)))
    client = client.having(
        SSH_ASKPASS=str(asking),
        SSH_ASKPASS_REQUIRE="force",
        VIRTSTORE_AGENT=f"virtstore-agent --config {hosts.a.configuration}",
    )
    try:
        known.write_text(before + Path(f"{key}.pub").read_text())
        found = client.json("storage-info", "asked-1", "b", "asked-2")
    finally:
        known.write_text(before)
    assert [each["host"] for each in found] == ["asked-1", "b", "asked-2"]
    assert (tmp_path / "asked").read_text() == "once\nonce\n"
