"""What `virtstore install` decides from what a host says, and what a host cannot make it do."""

from __future__ import annotations

import json
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.small_bundle import small_bundle

from virtstore import (
    ConnectionFailed,
    Denied,
    Error,
    Exists,
    NotFound,
    Unsafe,
    Unsupported,
    UsageError,
)
from virtstore.client import bundle, hosts_file, install, installed_files
from virtstore.client.bundle import OF_THE_AGENT, Bundle, Target
from virtstore.client.first_configuration import text_of, wanted
from virtstore.client.install import Facts, Wish, decide
from virtstore.client.setup_session import SetupSession
from virtstore.location import parse_host

SENT = small_bundle("2.0")
BARE = Facts(
    scope="root",
    user="root",
    python=(3, 11),
    machine="x86_64",
    library="/usr/local/lib/virtstore",
    commands="/usr/local/bin",
    digest="",
    digests=(),
    version="",
    linked=False,
    left_over=False,
    foreign=(),
    packaged=False,
    searched=True,
    configuration="/etc/virtstore/config.toml",
    configured=None,
    missing_tools=(),
    missing_directories=(),
)
DONE = msgspec.structs.replace(
    BARE, digest=SENT.digest, digests=(SENT.digest,), version="2.0", linked=True, configured=()
)
ROOTS = wanted(["/srv/images", "/srv/golden:read"], ["vg0:append"])


def with_(facts: Facts, **changes: Any) -> Facts:
    return msgspec.structs.replace(facts, **changes)


def test_a_bare_host_gets_all_of_it() -> None:
    plan = decide(BARE, SENT, ROOTS)
    assert (plan.send, plan.switch, plan.lines) == (True, True, None)
    assert tomllib.loads(plan.configuration or "") == {
        "directory": [
            {"path": "/srv/images", "access": "write"},
            {"path": "/srv/golden", "access": "read"},
        ],
        "volume_group": [{"name": "vg0", "access": "append"}],
    }


def test_what_is_there_already_is_not_sent_and_not_changed() -> None:
    there = tuple((*root,) for root in ROOTS)
    plan = decide(with_(DONE, configured=there), SENT, ROOTS)
    assert plan == (False, False, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"linked": False},
        {"left_over": True},
        {"digest": ""},
        {"digests": ("0" * 32, SENT.digest)},
    ],
)
def test_what_is_half_done_is_done_without_sending_it_again(change: dict[str, Any]) -> None:
    plan = decide(with_(DONE, **change), SENT, ())
    assert (plan.send, plan.switch) == (False, True)


def test_of_a_configuration_that_is_there_only_what_it_lacks_is_shown() -> None:
    plan = decide(with_(DONE, configured=(("directory", "/srv/images", "write"),)), SENT, ROOTS)
    assert plan.configuration is None
    assert plan.lines == text_of(ROOTS[1:])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"packaged": True}, Exists, "Debian package: apt-get"),
        ({"machine": "aarch64"}, Unsupported, r"Python 3\.11 on aarch64.*Python 3\.11 on x86_64"),
        ({"python": (3, 12)}, Unsupported, r"Python 3\.12 on x86_64, and this bundle is made for"),
        ({"foreign": ("/usr/local/bin/virtstore",)}, Exists, "something else is called so"),
        ({"version": "10.0"}, Exists, "newer than 2.0; --downgrade"),
        ({"missing_directories": ("/a b",)}, NotFound, "install -d -m 700 '/a b'"),
        ({"scope": "user"}, Unsafe, "only root"),
    ],
)
def test_it_is_refused_with_what_to_do(
    change: dict[str, Any], error: type[Error], says: str
) -> None:
    (found,) = install._refusals(with_(BARE, **change), SENT, Wish(ROOTS), "a")
    assert type(found) is error
    with pytest.raises(error, match=says):
        raise found


def test_a_newer_version_gives_way_only_where_that_was_asked_for() -> None:
    newer = with_(DONE, version="10.0")
    assert [*install._refusals(newer, SENT, Wish(downgrade=True), "a")] == []
    assert [*install._refusals(with_(DONE, version="1.9"), SENT, Wish(), "a")] == []


@pytest.mark.parametrize(
    ("directories", "says"),
    [
        (["images"], "no whole path"),
        (["/x:everything"], "is no access"),
        (["/x", "/x:read"], "named twice"),
        (["/x\n[limits]"], "cannot be printed"),
        ([""], "no whole path"),
    ],
)
def test_a_directory_that_makes_no_sense_is_refused(directories: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        wanted(directories, [])


@pytest.mark.parametrize("path", ['/a "b"', "/a\\b", "/a:b", "/ä'"])
def test_a_configuration_says_what_was_asked_whatever_is_in_a_name(path: str) -> None:
    text = text_of(wanted([f"{path}:read"], []))
    assert tomllib.loads(text) == {"directory": [{"path": path, "access": "read"}]}


def test_a_bundle_of_what_is_installed_has_all_that_is_imported() -> None:
    files = installed_files.collect()
    made = Bundle(files)
    assert (made.version, {t.python for t in made.targets}) == ("0.1.0", {sys.version_info[:2]})
    installed = {n.split("/")[1].partition("-")[0] for n in files if ".dist-info/" in n}
    assert installed > OF_THE_AGENT
    sides = {n.split("/")[0] for n in files}
    assert sides == {"agent", "bin", "client"}
    assert "client/cyclopts/__init__.py" in files
    assert "agent/virtstore/bare_host/program.py" in files
    assert not [n for n in files if "__pycache__" in n or n.endswith(".pyi")]


@pytest.mark.parametrize("way", ["directory", "tar", "tar of a directory"])
def test_a_bundle_that_was_made_elsewhere_is_read(tmp_path: Path, way: str) -> None:
    root = tmp_path / "made"
    for name, data in SENT.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    path = root
    if way != "directory":
        with tarfile.open(path := tmp_path / "made.tar.xz", "w:xz") as tar:
            tar.add(root, arcname="." if way == "tar" else "bundle")
    found = bundle.read(str(path))
    assert found.digest == SENT.digest
    assert found.targets == {Target((3, 11), "x86_64")}


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(b"none")
    with pytest.raises(UsageError, match="no tar of a bundle"):
        bundle.read(str(tmp_path / "tar"))
    with pytest.raises(UsageError, match="no bundle of virtstore"):
        bundle.read(str(tmp_path))
    with pytest.raises(NotFound):
        bundle.read(str(tmp_path / "none"))


def test_a_hosts_file_that_cannot_be_read_is_named_with_the_reason_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        hosts_file.read(str(tmp_path))
    assert refused.value.message == f"{tmp_path} cannot be read: Is a directory"


def test_an_agent_is_remembered_beside_what_hosts_toml_says(tmp_path: Path) -> None:
    file = tmp_path / "virtstore" / "hosts.toml"
    assert hosts_file.remember(str(file), "a", "x/agent")
    assert not hosts_file.remember(str(file), "a", "x/agent")
    assert hosts_file.remember(str(file), 'b.c"', "y")
    assert {name: entry.agent for name, entry in hosts_file.read(str(file)).items()} == {
        "a": "x/agent",
        'b.c"': "y",
    }
    before = file.read_text()
    with pytest.raises(UsageError, match="has an entry of a already"):
        hosts_file.remember(str(file), "a", "z")
    assert file.read_text() == before


Answering = Callable[[str], SetupSession]


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """A session with a host that says what a shell script does."""

    def open_(script: str) -> SetupSession:
        rsh = tmp_path / "rsh"
        rsh.write_text(f"#!/bin/sh\n{script}\n")
        rsh.chmod(0o755)
        monkeypatch.setenv("VIRTSTORE_RSH", str(rsh))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        return SetupSession(parse_host("a"))

    return open_


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("echo sh: /usr/bin/python3: not found >&2; exit 127", ConnectionFailed, "apt-get install"),
        ("echo virtstore setup 3 9; cat >/dev/null", Unsupported, r"has Python 3\.9"),
        ("echo virtstore agent; cat >/dev/null", Denied, "may start an agent there and nothing"),
        ("echo ModuleNotFoundError: lzma >&2; exit 1", ConnectionFailed, "no whole Python"),
        ("exit 0", ConnectionFailed, "went away"),
        ("yes", ConnectionFailed, "no Python"),
        ("tr '\\0' x </dev/zero", ConnectionFailed, "went away"),
        ("echo Permission denied '(publickey)' >&2; exit 255", ConnectionFailed, "not let in"),
    ],
)
def test_a_host_that_cannot_begin_is_told(
    answering: Answering, script: str, error: type[Error], says: str
) -> None:
    with pytest.raises(error, match=says):
        answering(script)


@pytest.mark.parametrize(
    "reply",
    [
        "nonsense",
        '{"answer": {"scope": "root"}}',
        json.dumps({"answer": msgspec.to_builtins(with_(BARE, python=(3, 11, 1)))}),
        '{"answer": ' + "[" * 100000,
    ],
)
def test_what_a_host_says_that_makes_no_sense_is_refused(
    answering: Answering, reply: str, tmp_path: Path
) -> None:
    (tmp_path / "reply").write_text(reply + "\n")
    script = f"echo noise; echo virtstore setup 3 11; read x; cat {tmp_path}/reply; cat >/dev/null"
    with answering(script) as session, pytest.raises(ConnectionFailed, match="makes no sense"):
        session.ask("survey", Facts)


def test_a_refusal_is_an_error_of_its_kind(answering: Answering) -> None:
    reply = '{"error": {"code": "exists", "message": "no", "path": "/x"}}'
    with (
        answering(f"echo virtstore setup 3 11; read x; read y; echo '{reply}'") as session,
        pytest.raises(Exists, match="a:/x: no"),
    ):
        session.ask("install", bool)
