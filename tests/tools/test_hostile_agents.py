"""An agent that is none of ours: it floods, lies, or says nothing but that it is alive."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import virtstore
from virtstore.channel import Channel
from virtstore.client import connection as connection_module
from virtstore.client.connection import Connection
from virtstore.client.copy_between import relay
from virtstore.errors import ConnectionFailed, Corrupt, Denied
from virtstore.protocol import AnyMessage, GetInfo, Receive, Send

from .test_agent_commands import images, told

__all__ = ["images"]  # a fixture

#: It greets; `say` and `hear` are a frame each.
_AGENT = """
import itertools, os, sys, threading, time
from virtstore.model import *
from virtstore.frames import encode, read_frame
from virtstore.protocol import *
def say(message, payload=b""):
    os.write(1, encode(message, len(payload)) + payload)
def hear():
    while isinstance(message := read_frame(sys.stdin.buffer.read)[0], Alive): pass
    return message
os.write(1, PREAMBLE)
say(Hello("0", PROTOCOL, OLDEST))
hear()
"""
_FOR_EVER = "\nwhile True:\n    time.sleep(0.05)\n    say({})\n"


@contextmanager
def agent(name: str, script: str) -> Iterator[Connection]:
    opened = Connection([sys.executable, "-c", _AGENT + script], name)
    try:
        yield opened
    finally:
        opened.close()


def copy(source: Connection, target: Connection) -> None:
    def receive(begin: object) -> Receive:
        return Receive("/t", "s", 1 << 30)

    relay(source, Send("/s"), target, receive, lambda done, size: None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SILENCE", 1.0)


_SOURCE = 'hear(); say(Begin("/s", 1 << 30)); hear()\n'
_WHOLE = _SOURCE + 'say(Zero(0, 1 << 30)); say(End("0" * 64)); hear()\n'
_TARGET = 'hear(); say(Ready("/t", False))\n'


@pytest.mark.parametrize(
    ("source", "target", "blamed"),
    [
        (_WHOLE, "hear()" + _FOR_EVER.format("Alive()"), "target"),
        (_WHOLE, _TARGET + _FOR_EVER.format("Alive()"), "target"),
        (_WHOLE, _TARGET + "hear(); hear()" + _FOR_EVER.format("Alive()"), "target"),
        ("hear()" + _FOR_EVER.format("Alive(False, 1 << 40)"), _TARGET, "source"),
        (_SOURCE + _FOR_EVER.format("Alive()"), _TARGET + "hear()", "source"),
        # It reads nothing, so that what it is sent waits in the pipe.
        (
            _SOURCE
            + "for n in range(1 << 10): say(Data(n << 20, 1 << 20, True), bytes(1 << 20))\n",
            _TARGET + _FOR_EVER.format("Alive()"),
            "target",
        ),
    ],
)
def test_an_agent_that_is_only_alive_is_not_waited_for(
    impatient: None, source: str, target: str, blamed: str
) -> None:
    with agent("source", source) as one, agent("target", target) as other:
        with pytest.raises(ConnectionFailed, match="has done nothing for 1 s") as caught:
            copy(one, other)
        assert caught.value.host == blamed


def test_an_agent_that_is_busy_is_waited_for(impatient: None) -> None:
    flushing = "\nfor n in range(60):\n    time.sleep(0.05)\n    say(Alive(True))\n"
    target = _TARGET + "hear(); hear()" + flushing + 'say(Received("/t", 1 << 30, 0, "0" * 64))\n'
    with agent("source", _WHOLE) as one, agent("target", target) as other:
        copy(one, other)


def test_an_agent_that_hears_a_slow_link_out_is_waited_for(impatient: None) -> None:
    """Bytes arrive now and then; in between there is nothing that it could do."""
    hearing = """
hear()
for n in range(40):
    time.sleep(0.05)
    say(Alive(False, 100 + n))
say(Told(ImageInfo("/x", "", "file", 1, 1)))
"""
    with agent("a", hearing) as one:
        one.send(GetInfo("/" + "x" * 200))
        one.receive()


def test_a_refusal_is_looked_at_while_a_source_floods_and_does_not_end() -> None:
    flood = (
        _SOURCE + "for n in itertools.count(): say(Data(n << 10, 1 << 10, True), bytes(1 << 10))"
    )
    target = _TARGET + 'hear(); say(Failure("denied", "not here")); time.sleep(600)'
    with (
        agent("source", flood) as one,
        agent("target", target) as other,
        pytest.raises(Denied, match="not here"),
    ):
        copy(one, other)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ('Told(ImageInfo("/y", "", "file", 1, 1))', Corrupt),
        ('Told(ImageInfo("/x", "", "file", -1, 1))', Corrupt),
        ('Done(Changed("/x", "", True))', ConnectionFailed),
    ],
)
def test_a_session_ends_with_an_answer_that_cannot_be_true(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, error: type[virtstore.Error]
) -> None:
    """What comes behind it would be taken for the next request's answer."""
    program = tmp_path / "agent"
    script = f'hear(); say({answer}); say(Told(ImageInfo("/z", "", "file", 1, 1))); hear()'
    program.write_text(f"#!{sys.executable}\n{_AGENT}{script}\n")
    program.chmod(0o755)
    argv = [str(program)]
    monkeypatch.setattr("virtstore.client.ssh.agent_argv", lambda *_, **__: argv)
    with virtstore.connect() as host:
        first = host._sessions.first
        with pytest.raises(error):
            host.image("/x").info()
        assert host._sessions.first is None is not first


def test_a_heartbeat_that_fails_here_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Channel.send

    def failing(channel: Channel, message: AnyMessage, payload: bytes = b"") -> None:
        if threading.current_thread().name == "heartbeat":
            raise MemoryError("none left")
        send(channel, message, payload)

    monkeypatch.setattr("virtstore.channel.HEARTBEAT", 0.05)
    monkeypatch.setattr(Channel, "send", failing)
    with (
        agent("a", "hear(); hear()") as one,
        pytest.raises(ConnectionFailed, match=r"ended here.*none left"),
    ):
        one.receive()


def test_an_agent_whose_log_cannot_be_shown_is_still_heard(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Were its log left unread, it would wait to be rid of it."""
    said = "hear(); sys.stderr.write('words' * 99_999); sys.stderr.flush()\n"
    script = said + 'say(Told(ImageInfo("/x", "", "file", 1, 1)))'
    monkeypatch.setattr(sys, "stderr", None)
    opened = Connection([sys.executable, "-c", _AGENT + script], "a", verbose=True)
    try:
        opened.send(GetInfo("/x"))
        opened.receive()
    finally:
        opened.close()
    assert capfd.readouterr().out == ""


def test_whose_agent_lies_is_told_of_a_copy_between_two(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that is damaged is the source's fault, but not what the target makes up."""
    liar = tmp_path / "liar.py"
    ended = "while type(hear()).__name__ != 'End':\n    pass\n"
    liar.write_text(f'{_AGENT}{_TARGET}{ended}say(Received("/t", 7, 0, "0" * 64)); hear()\n')
    monkeypatch.setenv("VIRTSTORE_RSH", f"{sys.executable} {liar}")
    error = told("copy", images / "x.img", "b:/t", status=9)["error"]
    assert "answered what cannot be true" in error["message"]
    assert (error["host"], error["path"]) == ("b", None)
