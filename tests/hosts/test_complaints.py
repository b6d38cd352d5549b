"""What ssh, sudo and login shells say in place of an agent reaches the user, with its meaning."""

from __future__ import annotations

import os
import re

import pytest

from .command import Client
from .conftest import Hosts, random_image
from .sshd import ssh_config
from .test_streams import agent_of_a
from .trees import MIB

_NOBODY = "setpriv --reuid=65534 --clear-groups"
_CASES = [
    ("/usr/sbin/nologin", r"This account is currently not available.*another user's"),
    ("echo 'Please login as the user debian.'; sleep 1", r"login as the user debian\."),
    ("echo Hello; echo 'to you'; virtstore-agent", r"it said:\n    Hello\n    to you\n.*\.bashrc"),
    ("echo Hello; virtstore-agent-none", r"    Hello\n.*not found\n'virtstore install HOST' puts"),
    ("printf 'a\\033]0;b\\007\\n'; sleep 1", r"    a\?\]0;b\?\n"),
    ("seq 100; sleep 1", r"    1\n    2\n.*    12\n    …\n"),
    ("sudo virtstore-agent-none", r"command not found; .*secure_path.*VIRTSTORE_AGENT"),
    (f"{_NOBODY} sudo virtstore-agent", r"password is required; .*NOPASSWD: \S+agent \"\""),
]  # fmt: skip


@pytest.mark.parametrize(("agent", "says"), _CASES, ids=lambda text: text[:30])
def test_what_is_said_in_place_of_an_agent_is_shown_and_explained(
    client: Client, hosts: Hosts, agent: str, says: str
) -> None:
    if "sudo" in agent and os.geteuid() != 0:
        pytest.skip("needs to be root, who becomes somebody else")
    error = agent_of_a(client, hosts, agent).run("list", "a:", "--json").error("connection")
    assert error["host"] == "a"
    assert_matches(says, error["message"])
    if "nologin" in agent:
        assert ".bashrc" not in error["message"]


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text, re.DOTALL), text


def test_what_is_printed_in_the_middle_of_a_session_names_where_it_may_come_from(
    client: Client, hosts: Hosts
) -> None:
    """A job of a login script that the user has forgotten, once the copy is under way."""
    source = random_image(hosts.a.images / "disk", 8 * MIB)
    started = hosts.directory / "started"
    agent = (
        f"(while ! test -e {started}; do sleep 0.1; done; echo '[1]+  Done  a job'; echo more) &"
        f" exec virtstore-agent --config {hosts.a.configuration}"
    )
    there = agent_of_a(client, hosts, agent)
    copy = there.under_way(
        "copy", hosts.a.at(source), hosts.local / "copy", "--bwlimit", "2M", until=MIB
    )
    started.touch()
    error = copy.end().error("connection")
    assert error["host"] == "a"
    assert_matches(r"\n    \[1\]\+  Done  a job\n.*background.*standard error", error["message"])
    assert not (hosts.local / "copy").exists()


def test_a_changed_host_key_is_told_with_the_whole_warning(client: Client, hosts: Hosts) -> None:
    config = hosts.directory / "client" / "changed"
    known = hosts.directory / "client" / "known_hosts-changed"
    key = (hosts.b.directory / "host-key.pub").read_text()
    known.write_text(f"a {key}")
    config.write_text(f"UserKnownHostsFile {known}\n" + ssh_config((hosts.a, hosts.b), hosts.keys))
    other = client.having(VIRTSTORE_RSH=f"ssh -F {config}")
    message = other.run("list", "a:", "--json").error("connection")["message"]
    for part in (
        "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",
        "Someone could be eavesdropping on you right now",
        "The fingerprint for the ED25519 key sent by the remote host is",
        str(known),
    ):
        assert part in message
    assert message.splitlines()[-1].startswith("the host's key is not the one that was known")
    shown = other.run("list", "a:").stderr
    assert "\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n" in shown


def test_a_host_that_is_not_known_yet_is_told_apart(client: Client, hosts: Hosts) -> None:
    config = hosts.directory / "client" / "unknown"
    config.write_text("UserKnownHostsFile /dev/null\n" + ssh_config((hosts.a, hosts.b), hosts.keys))
    other = client.having(VIRTSTORE_RSH=f"ssh -F {config}")
    message = other.run("list", "a:", "--json").error("connection")["message"]
    assert_matches("Host key verification failed.*run ssh to that host once", message)


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ("5000", r"write 5000B for 5000 bytes a second, 5000K for 5000 KiB a second"),
        ("10Mbps", "bytes a second here"),
        ("fast", "is not a rate"),
        ("-1M", "is not a rate"),
    ],
)
@pytest.mark.parametrize("command", ["copy", "copy-contents"])
def test_a_rate_that_means_two_things_is_refused_before_anything_moves(
    client: Client, hosts: Hosts, command: str, rate: str, says: str
) -> None:
    source = random_image(hosts.local / "disk", MIB)
    words = (command, source, hosts.local / "copy", f"--bwlimit={rate}", "--json")
    assert_matches(says, client.run(*words).error("usage")["message"])
    assert not (hosts.local / "copy").exists()


@pytest.mark.parametrize("rate", ["0", "10M/s", "10MB/s", "5000K"])
def test_a_rate_may_be_none_or_say_that_it_is_one(client: Client, hosts: Hosts, rate: str) -> None:
    source = random_image(hosts.local / "disk", MIB)
    client.json("copy", source, hosts.local / "copy", "--bwlimit", rate)
    assert (hosts.local / "copy").read_bytes() == source.read_bytes()
