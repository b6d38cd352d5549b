"""Signals: which end a command, in what order, and which asks how far it is."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ..waiting import PATIENCE
from . import processes
from .command import Client, UnderWay
from .conftest import Hosts, random_image
from .trees import MIB

_SIZE: Final = 8 * MIB
_PROGRAM: Final = str(Path(sys.executable).parent / "virtstore")


def copying(client: Client, hosts: Hosts, rate: str = "500K") -> UnderWay:
    """A copy that takes much longer than it takes to signal it."""
    source = random_image(hosts.a.images / "disk", _SIZE)
    target = hosts.b.at(hosts.b.images / "disk")
    words = ("copy", hosts.a.at(source), target, "--bwlimit", rate)
    return client.under_way(*words, until=MIB)


@pytest.mark.parametrize("whom", ["client", "everybody", "agents"])
def test_who_asks_by_sigusr1_how_far_a_copy_is_does_not_kill_it(
    client: Client, hosts: Hosts, whom: str
) -> None:
    copy = copying(client, hosts, "2M")
    if whom == "client":
        os.kill(copy.pid, signal.SIGUSR1)
    elif whom == "everybody":
        os.killpg(copy.pid, signal.SIGUSR1)
    else:
        agents = processes.agents(hosts.directory)
        assert len(agents) >= 2
        for agent in agents:
            os.kill(agent.pid, signal.SIGUSR1)
    done = copy.end()
    assert done.status == 0, done
    assert done.json["size"] == _SIZE
    told = re.findall(r"^virtstore: copy: \d+ %, .* of 8 MiB \(copying\)$", done.stderr, re.M)
    assert len(told) == (0 if whom == "agents" else 1)
    assert (hosts.b.images / "disk").read_bytes() == (hosts.a.images / "disk").read_bytes()


def test_an_agent_that_is_asked_how_far_it_is_says_so_in_its_log(
    client: Client, hosts: Hosts
) -> None:
    source = random_image(hosts.local / "disk", _SIZE)
    words = ("copy", source, hosts.local / "copy", "--bwlimit", "4M", "--verbose")
    process = client.start(*words)
    assert process.stderr
    lines = iter(process.stderr.readline, b"")
    assert any(b" of 8 MiB (copying)" in line for line in lines)
    [agent] = [p for p in processes.of(hosts.directory) if "virtstore.agent" in p.arguments]
    os.kill(agent.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert re.search(rb"local: virtstore-agent: copying, .* of 8 MiB", said)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True])
def test_a_command_that_is_told_to_end_ends_as_by_ctrl_c(
    client: Client, hosts: Hosts, number: signal.Signals, group: bool
) -> None:
    copy = copying(client, hosts)
    (os.killpg if group else os.kill)(copy.pid, number)
    done = copy.end()
    assert done.error("interrupted")["message"].startswith("interrupted; ")
    assert not processes.are_gone(hosts.directory)
    assert [path.name for path in hosts.b.images.iterdir()] == ["disk.virtstore-partial"]


def test_what_nohup_has_a_command_ignore_stays_ignored(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.local / "disk", _SIZE)
    words = ["nohup", _PROGRAM, "copy", str(source), str(hosts.local / "copy")]
    process = subprocess.Popen(
        [*words, "--bwlimit", "4M", "--json", "--progress"],
        env=client.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    assert process.stderr
    assert any(b'"copying"' in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGHUP)
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert (hosts.local / "copy").read_bytes() == source.read_bytes()


def test_an_agent_that_is_told_to_end_leaves_a_partial_and_says_why(
    client: Client, hosts: Hosts
) -> None:
    copy = copying(client, hosts)
    [agent] = processes.agents(hosts.directory, str(hosts.b.configuration))[:1]
    os.kill(agent.pid, signal.SIGTERM)
    error = copy.end().error("connection")
    assert "SIGTERM" in error["message"]
    assert not processes.are_gone(hosts.directory)
    assert [path.name for path in hosts.b.images.iterdir()] == ["disk.virtstore-partial"]


def test_ctrl_c_leaves_a_clean_line_behind(client: Client, hosts: Hosts) -> None:
    """What a terminal shows in the end: the message alone."""
    source = random_image(hosts.local / "disk", _SIZE)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [_PROGRAM, "copy", str(source), str(hosts.local / "copy"), "--bwlimit", "500K"],
        env={**client.environment, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        process_group=0,
    )
    os.close(theirs)
    screen = b""
    while b" of 8 MiB" not in screen:
        screen += os.read(ours, 4096)
    assert b"copy: connecting" in screen
    assert b"?" not in screen.partition(b" of 8 MiB")[0].replace(b"\x1b[?25l", b"")
    os.killpg(process.pid, signal.SIGINT)
    try:
        while more := os.read(ours, 4096):
            screen += more
    except OSError:  # how a terminal ends
        pass
    os.close(ours)
    assert process.wait(PATIENCE) == 130
    last = screen.rpartition(b"virtstore: interrupted; ")[0]
    assert last.endswith((b"\x1b[2K", b"\x1b[K"))
