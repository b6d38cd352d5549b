"""A host that has ssh and Python gets virtstore over one connection, and loses it again."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.unit.small_bundle import small_bundle
from virtstore.client.bundle import Bundle

from ..schemas import check
from .bare import Bare, bare_host, reached
from .command import Client
from .sshd import make_keys

_AS_ROOT: Final = os.geteuid() == 0
only_root: Final = pytest.mark.skipif(not _AS_ROOT, reason="only root makes users")


@dataclass(frozen=True)
class Place:
    """The host, and a client of its own that knows it."""

    host: Bare
    client: Client
    directory: Path

    def says(self, user: str, *words: str) -> str:
        """What a command prints in a session there; "" where there is no such command."""
        rsh = shlex.split(self.client.environment["VIRTSTORE_RSH"])
        done = subprocess.run(
            [*rsh, f"{user}@bare", shlex.join(words)], capture_output=True, text=True
        )
        return done.stdout.strip()

    def bundle(self, version: str) -> Path:
        return written(small_bundle(version, machine=os.uname().machine), self.directory, version)

    @property
    def commands(self) -> str:
        return "/usr/local/bin" if _AS_ROOT else f"{Path.home()}/.local/bin"


def written(bundle: Bundle, directory: Path, name: str) -> Path:
    (path := directory / f"{name}.tar").write_bytes(bundle.tar)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tmp_path.chmod(0o755)
    for each in (directories := [tmp_path / name for name in ("keys", "host", "client")]):
        each.mkdir(0o755)
    keys, there, here = directories
    make_keys(keys)
    with bare_host(there, keys) as host:
        client = Client(reached(host, here, keys))
        yield Place(host, client, here)
        client.close()


def test_a_bare_host_has_virtstore_after_one_command(place: Place) -> None:
    images, client = place.host.images, place.client
    words = ("install", "bare", "--directory", f"{images}:append")
    told = client.json(*words, "--dry-run")
    assert "/virtstore/" in told["plan"][0]
    assert str(images) in told["plan"][1]
    assert client.run("list", "bare:", "--json").error("connection")
    check("install", told)
    told = client.json(*words)
    check("install", told)
    assert (told["changed"], told["version"], told["lines"]) == (True, "0.1.0", None)
    logins = place.host.logins()
    assert client.json(*words)["changed"] is False
    assert place.host.logins() == logins + 1
    agent = client.having(VIRTSTORE_AGENT=f"{place.commands}/virtstore-agent")
    assert agent.json("create", f"bare:{images}/x.img", "1M")["size"] == 1 << 20
    assert agent.run("delete", f"bare:{images}/x.img", "--json").error("denied")
    removed = client.json("uninstall", "bare")
    check("uninstall", removed)
    assert removed["changed"] is True
    assert set(removed["kept"]) == {told["configuration"], str(images)}
    assert client.json("uninstall", "bare")["changed"] is False
    assert not place.host.at_path(told["directory"]).parent.exists()
    assert place.host.at_path(told["configuration"]).exists()
    assert (images / "x.img").exists()


def test_where_a_connection_is_cut_there_is_the_old_one_or_the_new(place: Place) -> None:
    user, agent = place.host.users[0], f"{place.commands}/virtstore-agent"
    assert place.client.json("install", "bare", "--bundle", place.bundle("1.0"))["changed"]
    much = {"client/much": random.Random(1).randbytes(400_000)}
    files = small_bundle("2.0", machine=os.uname().machine).files
    new = written(Bundle({**files, **much}), place.directory, "2.0")
    rsh = place.client.environment["VIRTSTORE_RSH"]
    for cut in (10, 10_000, 100_000, 300_000):
        (cutting := place.directory / "cut").write_text(
            f'#!/bin/sh\nstdbuf -o0 head -c {cut} | {rsh} "$@"\n'
        )
        cutting.chmod(0o755)
        cut_off = place.client.having(VIRTSTORE_RSH=str(cutting))
        cut_off.run("install", "bare", "--bundle", new, "--json").error("connection")
        assert place.says(user, agent) == "1.0"
    assert place.client.run("install", "bare", "--bundle", new).status == 0
    assert place.says(user, agent) == "2.0"
    assert place.client.json("install", "bare", "--bundle", new)["changed"] is False


def test_an_older_version_takes_the_place_of_a_newer_only_where_asked(place: Place) -> None:
    old, new = place.bundle("1.0"), place.bundle("2.0")
    assert place.client.run("install", "bare", "--bundle", new).status == 0
    error = place.client.run("install", "bare", "--bundle", old, "--json").error("exists")
    assert "--downgrade" in error["message"]
    assert place.client.json("install", "bare", "--bundle", old, "--downgrade")["changed"]


def test_what_a_key_lacks_on_its_host_is_told_when_it_is_handed_out(place: Place) -> None:
    images, client = place.host.images, place.client
    assert client.run("install", "bare", "--directory", images).status == 0
    words = ("install", "bare", "--key", place.directory.parent / "keys" / "append.pub")
    missing = client.json(*words, "--append", images / "no", "--dry-run")
    [warning] = missing["warnings"]
    assert f"install -d -m 700 {images}/no" in warning
    shown = client.run(*words, "--append", place.directory)
    assert shown.status == 0
    assert f'[[directory]]\npath = "{place.directory}"\naccess = "append"' in shown.stderr
    check("install", missing)


def test_a_key_may_do_one_thing_in_one_directory(place: Place) -> None:
    images, client = place.host.images, place.client
    (drop := images / """a "b' $c""").mkdir(0o700)
    assert client.run("install", "bare", "--directory", images).status == 0
    key = place.directory.parent / "keys" / "append.pub"
    words = ("install", "bare", "--key", key, "--append", drop)
    assert client.json(*words, "--dry-run")["changed"] is True
    check("install", told := client.json(*words))
    assert told["changed"] is True
    assert client.json(*words)["changed"] is False
    assert client.json("create", f"bare-append:{drop}/x.img", "1M")["changed"]
    client.run("delete", f"bare-append:{drop}/x.img", "--json").error("denied")
    client.run("create", f"bare-append:{images}/x.img", "1M", "--json").error("denied")
    other = client.run("install", "bare", "--key", key, "--write", drop, "--json").error("exists")
    assert "--access append" in other["message"]
    client.run("install", "bare-append", "--json").error("denied")


@only_root
def test_a_user_installs_for_himself_and_is_told_how_to_reach_it(place: Place) -> None:
    home = place.host.home("ann")
    place.host.directory.chmod(0o755)
    (images := home / "images").mkdir(0o700)
    os.chown(images, home.stat().st_uid, -1)
    words = ("install", "ann@bare", "--directory", "/home/ann/images")
    first = place.client.run(*words)
    assert first.status == 0
    assert "--remember writes these lines" in first.stderr
    assert 'agent = ".local/bin/virtstore-agent"' in first.stderr
    assert place.client.run("list", "ann@bare:", "--json").error("connection")
    assert place.client.run(*words, "--remember").status == 0
    assert place.client.json("create", "ann@bare:/home/ann/images/x.img", "1M")["changed"]
    assert not any(place.host.at_path("/usr/local").iterdir())


@only_root
def test_a_user_who_may_be_root_installs_for_everybody(place: Place) -> None:
    words = ("install", "ann@bare", "--as-root", "--bundle", place.bundle("1.0"))
    error = place.client.run(*words, "--json").error("denied")
    assert "NOPASSWD" in error["message"]
    place.host.let_sudo("ann")
    told = place.client.json(*words)
    assert (told["agent"], told["changed"]) == ("sudo virtstore-agent", True)
    assert place.client.json(*words)["changed"] is False
    assert place.says("ann", "virtstore-agent") == "1.0"
    link = place.host.at_path("/usr/local/bin/virtstore-agent")
    assert link.lstat().st_uid == 0
