"""Locales and standard streams of other people: names stay what they are, and what a stream
that is closed or full loses is neither an image nor the command."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from .command import Client, Ended
from .conftest import Hosts, random_image
from .sshd import Remote
from .trees import MIB

#: In none of the character sets of the locales below are all of them.
NAMES: Final = ("é.img", "ß日本.img", "Ж.img")
VIRTSTORE: Final = str(Path(sys.executable).parent / "virtstore")


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The environment of each locale. Those of old character sets are made here."""
    directory = tmp_path_factory.mktemp("locales")
    for language, charset in (("en_US", "ISO-8859-1"), ("ja_JP", "EUC-JP")):
        argv = ["localedef", "-i", language, "-f", charset, f"{directory}/{language}.{charset}"]
        done = subprocess.run(argv, capture_output=True, check=False)
        assert done.returncode == 0, f"{done.stderr.decode()} (Debian: locales)"
    names = ("C", "en_US.ISO-8859-1", "ja_JP.EUC-JP", "C.UTF-8")
    return {name: {"LC_ALL": name, "LOCPATH": str(directory)} for name in names}


LOCALES: Final = pytest.mark.parametrize(
    "name",  # POSIX is another name of C (locale(7))
    ["C", "en_US.ISO-8859-1", "ja_JP.EUC-JP", "C.UTF-8"],
)


def agent_of_a(client: Client, hosts: Hosts, command: str) -> Client:
    """A client to whom host a's agent is started by another command."""
    home = hosts.directory / "client" / "streams"
    (home / "virtstore").mkdir(parents=True, exist_ok=True)
    agent = json.dumps(command)
    (home / "virtstore" / "hosts.toml").write_text(f"[hosts.a]\nagent = {agent}\n")
    return client.having(XDG_CONFIG_HOME=str(home))


def in_locale(client: Client, hosts: Hosts, environment: Mapping[str, str]) -> Client:
    """A client in that locale, and host a in the same."""
    words = shlex.join(f"{key}={value}" for key, value in environment.items())
    command = f"env {words} virtstore-agent --config {hosts.a.configuration}"
    return agent_of_a(client, hosts, command).having(**environment)


@LOCALES
def test_a_name_is_the_same_on_both_hosts_in_any_locale(
    client: Client, hosts: Hosts, a: Remote, locales: dict[str, dict[str, str]], name: str
) -> None:
    there = in_locale(client, hosts, locales[name])
    for each in NAMES:
        assert there.json("create", a.at(a.images / each), "64K")["path"] == str(a.images / each)
        there.json("copy", a.at(a.images / each), hosts.local / each)
    assert sorted(os.listdir(os.fsencode(a.images))) == sorted(n.encode() for n in NAMES)
    assert sorted(os.listdir(os.fsencode(hosts.local))) == sorted(n.encode() for n in NAMES)
    for where in (a.at(a.images), str(hosts.local)):
        listed = there.run("list", where)
        assert (listed.status, listed.stderr) == (0, "")
        assert listed.stdout == "".join(f"{where}/{each}\n" for each in sorted(NAMES))
        told = there.json("list", where)
        assert {Path(entry["path"]).name for entry in told} == set(NAMES)


@LOCALES
def test_one_odd_name_is_no_reason_to_list_nothing(
    client: Client, hosts: Hosts, a: Remote, locales: dict[str, dict[str, str]], name: str
) -> None:
    (a.images / "plain.img").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(a.images) + b"/odd\xff.img")).write_bytes(b"")
    listed = in_locale(client, hosts, locales[name]).run("list", a.at(a.images))
    assert listed.status == 0, listed
    assert listed.stdout == f"{a.at(a.images)}/odd\\xff.img\n{a.at(a.images)}/plain.img\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("C", rb"\xe9.img"),
        ("en_US.ISO-8859-1", b"\xe9.img"),
        ("C.UTF-8", "é.img".encode()),
    ],
)
def test_what_a_terminal_cannot_show_is_escaped(
    client: Client, hosts: Hosts, locales: dict[str, dict[str, str]], name: str, shown: bytes
) -> None:
    (hosts.local / "é.img").write_bytes(b"")
    (hosts.local / "日.img").write_bytes(b"")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [VIRTSTORE, "list", str(hosts.local)],
        env={**client.environment, **locales[name]},
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    said = os.read(ours, 4096)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = said.splitlines()
    assert lines[0] == os.fsencode(hosts.local) + b"/" + shown
    assert lines[1].endswith("日.img".encode() if name == "C.UTF-8" else rb"/\u65e5.img")


def run_with(client: Client, streams: str, *words: str | Path) -> Ended:
    """The program as a shell starts it with those redirections."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {streams}', VIRTSTORE, *map(str, words)],
        env=client.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


CLOSED: Final = pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])


@CLOSED
def test_closed_streams_keep_nothing_from_being_done(
    client: Client, hosts: Hosts, a: Remote, streams: str
) -> None:
    source = random_image(hosts.local / "disk", MIB)
    for target in (a.images / "disk", hosts.local / "copy"):
        where = a.at(target) if target.is_relative_to(a.tree) else target
        done = run_with(client, streams, "copy", "--verbose", source, where)
        assert done.status == 0, done
        assert target.read_bytes() == source.read_bytes()
        assert run_with(client, streams, "info", where).status == 0
        assert run_with(client, streams, "diff", source, where).status == 0
    refused = run_with(client, streams, "copy", source, a.at(a.images / "disk"))
    assert (refused.status, refused.stdout) == (4, "")
    assert ("an image of that name" in refused.stderr) == ("2>&-" not in streams)


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_an_agent_without_a_standard_error_writes_nothing_into_images(
    client: Client, hosts: Hosts, a: Remote, streams: str
) -> None:
    command = f"virtstore-agent --verbose --config {a.configuration} {streams}"
    there = agent_of_a(client, hosts, command)
    source = random_image(hosts.local / "disk", 3 * MIB)
    there.json("copy", source, a.at(a.images / "disk"))
    there.json("copy", a.at(a.images / "disk"), hosts.local / "back", "--archive")
    assert (a.images / "disk").read_bytes() == source.read_bytes()
    there.json("verify", hosts.local / "back")


@pytest.mark.parametrize("streams", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_an_agent_without_its_session_ends_without_a_traceback(streams: str) -> None:
    program = str(Path(sys.executable).parent / "virtstore-agent")
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" {streams}', program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_result_that_could_not_be_told_is_a_failure_with_words(
    client: Client, hosts: Hosts, as_json: bool
) -> None:
    image = random_image(hosts.local / "disk", MIB)
    said = ["--json"] if as_json else []
    done = run_with(client, ">/dev/full", "info", image, *said)
    assert (done.status, "could not be told: No space left" in done.stderr) == (1, True)
    missing = run_with(client, ">/dev/full", "info", hosts.local / "none", *said)
    assert (missing.status, "no such image" in missing.stderr) == (3, True)
