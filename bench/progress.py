"""A copy of ours that tells how far it is."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator

import msgspec

from bench.place import Place


class Event(msgspec.Struct):
    """Bytes of the image, in a stage of the copy."""

    done: int
    total: int
    stage: str | None = None


def started(place: Place, command: str) -> subprocess.Popen[bytes]:
    """A command with `--progress`."""
    return subprocess.Popen(
        shlex.split(place.real(command)),
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def events(process: subprocess.Popen[bytes]) -> Iterator[Event]:
    """What it tells while it copies: other stages, as connecting is one, have sums of their own."""
    assert process.stderr
    for line in process.stderr:
        event = msgspec.json.decode(line, type=Event)
        if event.stage == "copying":
            yield event
