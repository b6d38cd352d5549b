"""TAB behind `HOST:`: the paths are the host's, and one connection is good for many of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import waiting
from tests.shells import Shell, shell
from virtstore.cli.completion import SCRIPTS

from .command import Client
from .conftest import Hosts


@pytest.fixture
def sharing(client: Client, hosts: Hosts) -> Iterator[Client]:
    """A client that keeps its sockets in a directory of its own, whose path is short enough."""
    with tempfile.TemporaryDirectory(prefix="vs", dir="/tmp") as runtime:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        having = client.having(XDG_RUNTIME_DIR=runtime, PATH=path, HOME=runtime)
        yield having
        rsh = having.environment["VIRTSTORE_RSH"].split()
        control = f"ControlPath={runtime}/virtstore/%C"
        for host in ("a", "b"):
            subprocess.run([*rsh, "-o", control, "-O", "exit", host], capture_output=True)


def completed(typed: Shell, line: str) -> str:
    """What a line becomes. Nobody waits for a busy host for long, but may press TAB again."""
    become = line

    def changed() -> bool:
        nonlocal become
        become = typed.completed(line)
        return become != line

    waiting.until(changed, f"{line} to be completed")
    return become


@pytest.mark.parametrize("name", SCRIPTS)
def test_paths_of_a_host_are_completed_over_one_connection(
    sharing: Client, hosts: Hosts, tmp_path: Path, name: str
) -> None:
    images = hosts.a.images
    (images / "web one:$x.img").touch()
    (images / "old").mkdir()
    before = hosts.a.logins()
    with shell(name, tmp_path, sharing.environment) as typed:
        root = f"{hosts.a.tree}/images/"
        assert completed(typed, f"virtstore list a:{root[:-4]}") == f"virtstore list a:{root}"
        assert completed(typed, f"virtstore list a:{root}o") == f"virtstore list a:{root}old/"
        for quote in ("", '"'):
            line = completed(typed, f"virtstore info {quote}a:{root}we")
            assert typed.words(line) == ["virtstore", "info", f"a:{root}web one:$x.img"]
        assert typed.completed("virtstore copy /x b-app") == "virtstore copy /x b-append:"
        assert "rror" not in typed.shown
    assert hosts.a.logins(still_open=1) == before + 1


def test_the_sockets_of_shared_connections_are_nobody_elses(sharing: Client, hosts: Hosts) -> None:
    words = ("complete", "zsh", "info", f"a:{hosts.a.tree}/")
    waiting.until(lambda: sharing.run(*words).stdout, "an answer")
    runtime = Path(sharing.environment["XDG_RUNTIME_DIR"]) / "virtstore"
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert [each.is_socket() for each in runtime.iterdir()] == [True]


def test_a_url_is_completed_as_one(sharing: Client, hosts: Hosts) -> None:
    (hosts.a.images / "50%.img").touch()
    words = ("complete", "zsh", "info", f"ssh://a{hosts.a.images}/5")
    waiting.until(lambda: sharing.run(*words).stdout, "an answer")
    assert sharing.run(*words).stdout == f"ssh://a{hosts.a.images}/50%25.img\t50%25.img\n"


def test_a_host_that_refuses_offers_nothing(sharing: Client) -> None:
    for location in ("a-stranger:/", "a-without:/", "nowhere:/", "no-such-host:/"):
        ended = sharing.run("complete", "zsh", "info", location)
        assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
