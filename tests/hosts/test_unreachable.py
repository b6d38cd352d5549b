"""Hosts that cannot be reached, or that have no agent of use: each is told from the others."""

from __future__ import annotations

import pytest

from .command import Client
from .conftest import Hosts, Refused, random_image
from .trees import MIB

_CASES = [
    ("nowhere", "virtstore.invalid"),
    ("a-stranger", "Permission denied"),
    ("a-without", "'virtstore install a-without' puts it.*VIRTSTORE_AGENT"),
    ("a-newer", "protocol 999.*Install the same version"),
    ("a-noisy", "Welcome to .*login script.*print nothing"),
]


@pytest.mark.parametrize(("name", "says"), _CASES)
def test_a_host_without_an_agent_says_why(
    hosts: Hosts, refused: Refused, name: str, says: str
) -> None:
    source = random_image(hosts.a.images / "disk", MIB)
    target = random_image(hosts.b.images / "disk", MIB, seed=2)
    there = hosts.a.at(source, name)
    error = refused("connection", "info", there, says=says)
    assert error["host"] == name
    refused("connection", "copy", hosts.b.at(target), hosts.a.at(source, name), says=says)
    refused("connection", "copy-contents", there, hosts.b.at(target), says=says)


def test_a_program_that_is_no_ssh_is_named(client: Client) -> None:
    ended = client.having(VIRTSTORE_RSH="/nonexistent/rsh").run("list", "a:", "--json")
    assert "/nonexistent/rsh: No such file" in ended.error("connection")["message"]


def test_a_hosts_file_that_is_wrong_is_named(client: Client, hosts: Hosts) -> None:
    odd = hosts.directory / "client" / "odd"
    (odd / "virtstore").mkdir(parents=True, exist_ok=True)
    (odd / "virtstore" / "hosts.toml").write_text('[hosts.a]\nadress = "typo"\n')
    ended = client.having(XDG_CONFIG_HOME=str(odd)).run("list", "a:", "--json")
    assert "hosts.toml cannot be used: " in ended.error("usage")["message"]
    assert "adress" in ended.error("usage")["message"]
