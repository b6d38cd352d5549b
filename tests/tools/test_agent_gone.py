"""An agent that ends in the middle of its work: what is said of what it was doing."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from .test_agent_commands import images, told

__all__ = ["images"]  # a fixture

#: Greets as an agent does, and ends at the first request.
_MORTAL = """
import sys
from virtstore.channel import Channel
from virtstore.protocol import OLDEST, PREAMBLE, PROTOCOL, Hello
sys.stdout.buffer.write(PREAMBLE)
sys.stdout.flush()
channel = Channel(0, 1)
channel.send(Hello("1", PROTOCOL, OLDEST))
while not isinstance(channel.receive()[0], Hello):
    pass
channel.receive()
print("Killed", file=sys.stderr)
"""


def test_what_an_agent_that_went_away_leaves_is_told(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join([sys.executable, "-c", _MORTAL]))
    message = told("create", images / "new.img", "1M", status=10)["error"]["message"]
    assert message.startswith("the agent went away: Killed; ")
    assert "listed as partial: the same command goes on with it" in message
    assert "whoever has \"write\" there removes it with 'virtstore clean'" in message


def test_an_agent_that_never_began_leaves_nothing(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", "sh -c 'echo no >&2; exit 1'")
    message = told("info", images / "x.img", status=10)["error"]["message"]
    assert message.startswith("no session could be opened: no")
    assert "partial" not in message
    monkeypatch.setenv("VIRTSTORE_AGENT", "true")
    message = told("info", images / "x.img", status=10)["error"]["message"]
    assert message == "no session could be opened: its agent ended without a word"
    monkeypatch.setenv("VIRTSTORE_AGENT", "sh -c 'exit 127'")
    message = told("info", images / "x.img", status=10)["error"]["message"]
    assert message.startswith("there is no agent there; 'virtstore install local' puts it there")
