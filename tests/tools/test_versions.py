"""A client and an agent of two versions: what both know is done, the rest is refused whole."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.message_set import Peer, described

import virtstore
from virtstore.client import ssh
from virtstore.client.connection import Connection
from virtstore.location import LOCAL
from virtstore.protocol import OLDEST, PROTOCOL, Begin, Done, GetInfo, Send, Told

from .test_agent_commands import images, told

__all__ = ["images"]  # a fixture


@pytest.fixture
def agent(images: Path) -> Iterator[Connection]:
    """One of this version, which is the older one here."""
    opened = Connection(ssh.agent_argv(LOCAL), "a")
    try:
        yield opened
    finally:
        opened.close()


def newer() -> Peer:
    """A client of the next version."""
    messages = described()
    messages["DeleteImage"]["fields"]["older_than"] = "int | None = None"
    messages["Start"]["fields"]["paced"] = "bool = False"
    messages["CopyOptions"]["fields"]["by_post"] = "bool = False"
    messages["EmptyImage"] = {"tagged": True, "strict": True, "fields": {"path": "str"}}
    return Peer(messages)


@pytest.mark.parametrize("request_", ["DeleteImage", "EmptyImage", "CopyHere"])
def test_an_older_agent_does_nothing_of_what_it_knows_only_a_part_of(
    images: Path, agent: Connection, request_: str
) -> None:
    client, path = newer(), str(images / "x.img")
    asked = {
        "DeleteImage": lambda: client.make("DeleteImage", path=path, older_than=3),
        "EmptyImage": lambda: client.make("EmptyImage", path=path),
        "CopyHere": lambda: client.make(
            "CopyHere",
            source=path,
            target=str(images / "y.img"),
            options=client.make("CopyOptions", by_post=True),
        ),
    }
    before = {each: each.stat().st_mtime_ns for each in images.iterdir()}
    agent.send(asked[request_]())
    with pytest.raises(virtstore.Unsupported) as caught:
        agent.receive()
    version = virtstore.__version__
    assert f"virtstore {version}, which does not know" in caught.value.message
    assert f"virtstore {version}, which asked for it" in caught.value.message
    assert {each: each.stat().st_mtime_ns for each in images.iterdir()} == before
    agent.heard = lambda progress: None
    agent.send(GetInfo(path))  # and the session goes on
    assert isinstance(agent.receive()[0], Told)


def test_an_older_source_sends_nothing_where_it_knows_only_a_part_of_how(
    images: Path, agent: Connection
) -> None:
    agent.heard = lambda progress: None
    agent.send(Send(str(images / "x.img")))
    assert isinstance(agent.receive()[0], Begin)
    agent.send(newer().make("Start", compare=False, paced=True))
    with pytest.raises(virtstore.Unsupported, match="does not know paced of Start"):
        agent.receive()


def test_an_older_agent_does_what_it_knows(images: Path, agent: Connection) -> None:
    client = newer()
    agent.send(client.make("DeleteImage", path=str(images / "x.img")))
    while not isinstance(agent.receive()[0], Done):
        pass
    assert not (images / "x.img").exists()


#: An agent of the next version, with more to tell than is known here.
_NEWER = """
import os, sys
import msgspec
from virtstore.frames import encode, read_frame
from virtstore.protocol import *
def say(message):
    body = msgspec.msgpack.encode(message)
    os.write(1, len(body).to_bytes(4, "big") + bytes(4) + body)
def hear():
    while isinstance(message := read_frame(sys.stdin.buffer.read)[0], Alive): pass
    return message
os.write(1, PREAMBLE)
say({{"type": "Hello", "version": "9.0", "protocol": {protocol}, "oldest": {oldest},
     "features": ["leases"], "site": "north"}})
hear()
path = hear().path
use = {{"by": "lease", "detail": "of another host", "since": 5}}
say({{"type": "Progressed", "done": 1, "total": 2, "stage": "thinking\\x1b[2J", "rate": 7}})
say({{"type": "Told", "info": {{"path": path, "host": "", "type": "tape", "size": 5,
     "allocated": 4, "compression": "brotli", "in_use": [use], "colour": "red"}}, "more": 1}})
hear()
"""


def newer_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: int, oldest: int
) -> None:
    program = tmp_path / "agent"
    script = _NEWER.format(protocol=protocol, oldest=oldest)
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    monkeypatch.setenv("VIRTSTORE_AGENT", os.fspath(program))


def test_what_a_newer_agent_says_is_shown_as_far_as_it_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer_agent(monkeypatch, tmp_path, PROTOCOL + 1, PROTOCOL)
    info = told("info", "/x")
    assert (info["type"], info["compression"]) == ("tape", "brotli")
    assert info["in_use"] == [{"by": "lease", "detail": "of another host"}]
    assert "colour" not in info


def test_words_of_a_newer_agent_do_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer_agent(monkeypatch, tmp_path, PROTOCOL + 1, PROTOCOL)
    events: list[virtstore.Progress] = []
    with virtstore.connect() as host:
        host._ask(GetInfo("/x"), "info", events.append)
    assert "thinking\x1b[2J" in [event.stage for event in events]
    from virtstore.cli import meter

    heard: list[virtstore.Progress] = []
    noted = meter._noted(heard.append)
    for event in events:
        noted(event)
    assert "thinking?[2J" in [event.stage for event in heard]


@pytest.mark.parametrize(
    ("protocol", "oldest"), [(PROTOCOL + 1, PROTOCOL + 1), (OLDEST - 1, OLDEST - 1)]
)
def test_where_no_protocol_is_common_both_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: int, oldest: int
) -> None:
    newer_agent(monkeypatch, tmp_path, protocol, oldest)
    message = told("info", "/x", status=10)["error"]["message"]
    assert f"virtstore 9.0, which speaks protocol {protocol}" in message
    assert "Install the same version at both ends" in message


_RELEASES = sorted((Path(__file__).parents[1] / "unit").glob("messages-*.json"))


@pytest.mark.parametrize("release", _RELEASES, ids=lambda file: file.stem)
def test_what_a_release_knows_is_done_through_its_agent(
    images: Path, release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = Path(__file__).with_name("released_agent.py")
    agent = [sys.executable, str(program), str(release), sys.executable, "-P", "-m"]
    (rsh := tmp_path / "rsh").write_text('#!/bin/sh\nshift $(($# - 1)); exec sh -c "$1"\n')
    rsh.chmod(0o755)
    config = ["--config", os.environ["VIRTSTORE_CONFIG"]]
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join([*agent, "virtstore.agent", *config]))
    monkeypatch.setenv("VIRTSTORE_RSH", str(rsh))
    assert told("create", f"a:{images}/n.img", "8M")["changed"]
    subprocess.run(["mke2fs", "-q", "-t", "ext4", images / "n.img"], check=True)
    assert told("info", f"a:{images}/n.img")["filesystem"]["type"] == "ext4"
    assert told("resize", f"a:{images}/n.img", "16M")["filesystem"]["size"] == 16 << 20
    archive = f"b:{images}/n.img.zst"
    assert told("copy", f"a:{images}/n.img", archive, "--archive")["size"] == 16 << 20
    assert told("verify", archive)["checked"] == "digest"
    assert told("copy-contents", f"a:{images}/x.img", f"b:{images}/n.img")["transferred"]
    assert told("diff", f"a:{images}/x.img", f"b:{images}/n.img", status=1)["different"]
    assert told("copy", f"a:{images}/x.img", f"a:{images}/y.img")["written"]
    assert len(told("list", "-l", f"a:{images}")) == 4
    assert told("storage-info", "a:")["version"] == virtstore.__version__
    assert told("clean", f"a:{images}")["removed"] == []
    assert told("delete", f"a:{images}/y.img")["changed"]
