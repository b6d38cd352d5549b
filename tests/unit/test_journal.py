"""One line for each request that changes something, or was refused; nothing forges another."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.agent import journal, serve
from virtstore.agent.status import Status
from virtstore.errors import Exists
from virtstore.protocol import Ask, CreateImage, DeleteImage, GetInfo, ListImages, Requests

_WORD = re.compile(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^ "]+)(?: |$)')


def entry(request: Ask[Any], code: str = "done", written: int | None = None) -> journal.Entry:
    return journal.Entry(request, time.monotonic(), code, written)


def words(line: str) -> dict[str, str]:
    """The keys of a line, each once, with nothing between them."""
    found = _WORD.findall(line)
    assert "".join(f"{key}={value} " for key, value in found).rstrip() == line
    assert len(dict(found)) == len(found)
    return {key: json.loads(text) if text.startswith('"') else text for key, text in found}


@given(st.text())
def test_a_name_is_one_word_of_one_line_whatever_is_in_it(name: str) -> None:
    line = entry(DeleteImage(f"/images/{name}")).line()
    assert line.isascii()
    assert line.isprintable()
    told = words(line)
    assert told["path"] == f"/images/{name}"
    assert (told["verb"], told["outcome"]) == ("delete", "done")


@pytest.mark.parametrize(
    ("request_", "code", "due"),
    [
        (CreateImage("/i/x", "1M"), "done", True),
        (CreateImage("/i/x", "1M"), "no-space", True),
        (CreateImage("/i/x", "1M", dry_run=True), "done", False),
        (CreateImage("/i/x", "1M", dry_run=True), "denied", True),
        (GetInfo("/i/x"), "done", False),
        (GetInfo("/i/x"), "not-found", False),
        (ListImages("/i"), "denied", True),
    ],
)
def test_what_changes_something_or_was_refused_is_written(
    request_: Ask[Any], code: str, due: bool
) -> None:
    assert entry(request_, code).is_due is due


def test_each_request_that_can_be_tried_dry_has_a_verb() -> None:
    kinds: list[type[Ask[Any]]] = list(Requests.__args__)
    assert len(kinds) > 15
    for kind in kinds:
        assert bool(kind.verb) == ("dry_run" in kind.__struct_fields__), kind


def test_who_asked_and_what_the_command_of_the_key_narrows_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50022 192.0.2.1 22")
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr("sys.argv", ["virtstore-agent", "--access", "append"])
    told = words(entry(CreateImage("/i/x", "1M"), written=7).line())
    assert (told["from"], told["by"]) == ("192.0.2.7", "alice")
    assert (told["options"], told["written"]) == ("--access append", "7")


def test_a_file_gets_a_line_with_its_time_and_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for _ in range(2):
        journal.write(entry(CreateImage("/i/x", "1M")), str(file))
    first, second = file.read_text().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ virtstore-agent\[\d+\]: verb=create ", first)
    assert second
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_cannot_be_written_is_said_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.symlink("/etc/passwd", tmp_path / "log")
    before = Path("/etc/passwd").read_bytes()
    for file in (tmp_path / "log", tmp_path / "missing" / "log"):
        journal.write(entry(CreateImage("/i/x", "1M")), str(file))
        assert str(file) in caplog.text
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(("code", "facility"), [("done", "3"), ("denied", "4")])
def test_the_journal_gets_its_fields_and_refusals_as_auth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, facility: str
) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(journal.SOCKET)
        journal.write(entry(CreateImage("/i/x", "1M"), code), "journal")
        fields = dict(line.split("=", 1) for line in listening.recv(65536).decode().splitlines())
    assert words(fields["MESSAGE"])["outcome"] == code
    assert fields["SYSLOG_FACILITY"] == facility
    assert fields["SYSLOG_IDENTIFIER"] == "virtstore-agent"


def test_a_fifo_that_nobody_reads_keeps_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "log")
    journal.write(entry(CreateImage("/i/x", "1M")), str(tmp_path / "log"))
    assert "could not be written" in caplog.text


def test_a_journal_that_does_not_read_keeps_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "socket"))
    monkeypatch.setattr(journal, "_PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(journal.SOCKET)
        while not caplog.text:
            journal.write(entry(CreateImage("/i/x", "1M")), "journal")
    assert "could not be written to journal" in caplog.text


@pytest.mark.parametrize("error", [None, Exists("it is there")])
def test_the_line_is_written_before_the_answer_is_sent(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """A client ends its agent when it has its answer."""
    order: list[str] = []

    def handle(agent: object, request: object) -> str:
        if error:
            raise error
        return "answer"

    def write(entry: journal.Entry, where: str) -> None:
        order.append(entry.code)

    monkeypatch.setattr(serve, "handler_of", lambda kind: handle)
    monkeypatch.setattr(journal, "write", write)
    agent = Mock(log="none")
    agent.session.send = lambda answer: order.append(type(answer).__name__)
    serve._answer(agent, CreateImage("/i/x", "1M"), Status(agent.session))
    assert order == (["exists", "Failure"] if error else ["done", "str"])
