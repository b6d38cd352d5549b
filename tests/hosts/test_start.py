"""Agents are started before the command line is read: what that may and may not do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from . import processes
from .command import Client
from .conftest import Hosts, random_image
from .sshd import ssh_config
from .trees import MIB

_GCM = "aes128-gcm@openssh.com"
_CHACHA = "chacha20-poly1305@openssh.com"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["info", "a:/x", "--no-such-flag"], 2),
        (["copy", "a:/x"], 2),
        (["copy", "a:/x", "/y", "--format", "rar"], 2),
        (["growfs", "a:/x", "1G", "--partition", "one"], 2),
    ],
)
def test_what_is_refused_leaves_no_agent_behind(
    client: Client, hosts: Hosts, words: list[str], status: int
) -> None:
    assert client.run(*words).status == status
    assert not processes.are_gone(hosts.directory)


@pytest.mark.parametrize(
    "words",
    [["info", "a:/x", "--help"], ["no-such-command", "a:/x"], ["create", "/x", "10Q"]],
)
def test_who_cannot_be_meant_is_not_connected_to(
    client: Client, hosts: Hosts, words: list[str]
) -> None:
    before = hosts.a.logins()
    client.run(*words)
    assert hosts.a.logins() == before


def test_a_command_that_names_a_configuration_starts_no_other_agent(
    client: Client, hosts: Hosts
) -> None:
    config = hosts.directory / "client" / "none.toml"
    config.write_text("")
    error = client.run("info", "/x", "--config", config, "--json").error("denied")
    assert "none.toml" in error["message"]


@pytest.mark.parametrize("command", ["copy", "diff"])
def test_a_name_without_a_slash_is_no_reason_to_log_in_twice(
    client: Client, hosts: Hosts, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It would ask for two passwords at once."""
    random_image(hosts.local / "disk", MIB)
    random_image(hosts.b.images / "there", MIB)
    monkeypatch.chdir(hosts.local)
    target = "new" if command == "copy" else "there"
    before = hosts.b.logins()
    done = client.run(command, "disk", hosts.b.at(hosts.b.images / target))
    assert done.status == 0, done
    assert hosts.b.logins() == before + 1


def _copy_with(client: Client, hosts: Hosts, ssh: str, more: str = "") -> set[str]:
    """The ciphers of a copy from this machine to host b."""
    config = hosts.directory / "client" / "ciphers"
    config.write_text(ssh_config((hosts.a, hosts.b), hosts.keys, more=more))
    source = random_image(hosts.local / "disk", MIB)
    asked = client.having(VIRTSTORE_RSH=f"{ssh} -v -F {config}")
    done = asked.run("copy", "--verbose", source, hosts.b.at(hosts.b.images / "disk"))
    assert done.status == 0, done
    return set(re.findall(r"kex: \S+ cipher: (\S+)", done.stderr))


def test_a_copy_asks_for_the_fastest_cipher_first(client: Client, hosts: Hosts) -> None:
    has_aes = re.search(r"\baes\b", Path("/proc/cpuinfo").read_text())
    assert _copy_with(client, hosts, "ssh") == {_GCM if has_aes else _CHACHA}


def test_a_copy_asks_for_no_cipher_that_the_user_did_not_allow(
    client: Client, hosts: Hosts
) -> None:
    allowed = f"    Ciphers {_CHACHA},aes256-ctr\n"
    assert _copy_with(client, hosts, "ssh", allowed) == {_CHACHA}


def test_a_cipher_that_the_user_names_is_the_one(client: Client, hosts: Hosts) -> None:
    assert _copy_with(client, hosts, "ssh -c aes256-ctr") == {"aes256-ctr"}


def test_what_moves_little_uses_the_cipher_that_ssh_prefers(client: Client, hosts: Hosts) -> None:
    config = hosts.directory / "client" / "ciphers"
    config.write_text(ssh_config((hosts.a, hosts.b), hosts.keys))
    asked = client.having(VIRTSTORE_RSH=f"ssh -v -F {config}")
    done = asked.run("list", "--verbose", "b:")
    preferred = subprocess.run(["ssh", "-F", "none", "-G", "b"], capture_output=True, text=True)
    first = re.search(r"^ciphers ([^,\s]+)", preferred.stdout, re.M)
    assert first
    assert set(re.findall(r"kex: \S+ cipher: (\S+)", done.stderr)) == {first[1]}
