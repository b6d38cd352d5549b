"""`info` over a connection that the user's ssh has open already (ControlMaster)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import demands
from bench.model import Failed, Result
from bench.place import Place
from bench.race import Command, Race, shell

_PEER = "ssh HOST true"


def measure_warm_info(place: Place, runs: int) -> Result:
    race = Race(
        "info-warm",
        "info of an image on another host, over a warm ssh connection",
        (
            Command("virtstore", "virtstore info warm:{b}/small.img"),
            Command(_PEER, "ssh warm true", ("ssh",)),
        ),
        (demands.no_slower(_PEER, 2), demands.memory),
        ("Processor time on the other host is not in CPU: the connection goes on.",),
        after=shell("rm {b}/small.img"),
    )
    shell("cp {a}/many/00000.img {b}/small.img")(place)
    with _connection(place):
        return race.measure(place, runs)


@contextmanager
def _connection(place: Place) -> Iterator[None]:
    master = subprocess.Popen(
        ["ssh", "-M", "-N", "warm"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(place)
        yield
    finally:
        master.terminate()
        master.wait()
        place.settle(0)


def _wait_for(place: Place) -> None:
    deadline = time.monotonic() + 10
    while not (place.scratch / "warm").exists():
        if time.monotonic() > deadline:
            raise Failed("the shared ssh connection did not come about")
        time.sleep(0.02)
