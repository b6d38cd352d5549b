"""What a copy does to others: the bandwidth that it takes, and the page cache."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import progress
from bench.inputs import MIB
from bench.model import Contender, Demand, Failed, Result, Run
from bench.place import Place
from bench.race import Command, run_text, shell, timed

_LIMIT = 20 * MIB
_SPAN = 10.0
_SOURCE, _BYSTANDER, _TARGET = "{a}/full.img", "{a}/changed.img", "{b}/out.img"


def measure_bandwidth(place: Place, runs: int) -> Result:
    """400 MiB that cannot be compressed, at 20 MiB/s: 20 s. Twice: it hardly varies."""
    copy = f"virtstore copy --json --progress --bwlimit 20M {{a}}/noise.img b:{_TARGET}"
    rates = []
    for _ in range(min(runs, 2)):
        run_text(place, f"rm -f {_TARGET}")
        rates += _rates(_events(place, copy), _SPAN / place.scale)
    run_text(place, f"rm -f {_TARGET}")
    worst = max(abs(rate / _LIMIT - 1) for rate in rates)
    return Result(
        "bwlimit",
        "copy to another host with --bwlimit 20M",
        (Contender("virtstore", place.shown(copy)),),
        (Demand("deviation from the limit over 10 s", worst * 100, 5, False, "%"),),
        (
            f"MiB/s over any 10 s of the copy: {min(rates) / MIB:.2f} to"
            f" {max(rates) / MIB:.2f}, {len(rates)} times.",
        ),
    )


def _events(place: Place, command: str) -> list[tuple[float, int]]:
    """How many bytes were done, and when it said so (seconds)."""
    with progress.started(place, command) as process:
        told = [(time.monotonic(), event.done) for event in progress.events(process)]
    if process.returncode:
        raise Failed(f"{command} ended with status {process.returncode}")
    return told


def _rates(events: list[tuple[float, int]], span: float) -> list[float]:
    """Bytes a second from each event to the first that is `span` seconds later."""
    rates = []
    for begun, before in events:
        later = next((each for each in events if each[0] >= begun + span), None)
        if later:
            rates.append((later[1] - before) / (later[0] - begun))
    return rates


def measure_page_cache(place: Place, runs: int) -> Result:
    """How much is cached of an image that is copied, and of a bystander, before and after."""
    copy = Command(
        "virtstore",
        f"virtstore copy --json {_SOURCE} b:{_TARGET}",
        before=shell(f"rm -f {_TARGET}"),
    )
    cold, warm = (_copied(place, copy, cached=cached) for cached in (False, True))
    copy.before(place)
    return Result(
        "page-cache",
        "copy full.img to an image on another host: what it leaves in the page cache",
        (Contender(copy.name, place.shown(copy.text), runs=(cold.run, warm.run)),),
        (
            Demand("of an uncached source left in the cache", cold.after * 100, 5, False, "%"),
            Demand("of a cached source still in the cache", warm.after * 100, 95, True, "%"),
            Demand(
                "of another cached image still there",
                min(cold.kept, warm.kept) * 100,
                95,
                True,
                "%",
            ),
        ),
        (cold.text, warm.text),
    )


@dataclass(frozen=True)
class _Cached:
    """The parts of source, target and bystander in the page cache, before and after a copy."""

    run: Run
    before: float
    after: float
    target: float
    others_before: float
    others_after: float

    @property
    def kept(self) -> float:
        """Of what was cached of the bystander."""
        return self.others_after / self.others_before

    @property
    def text(self) -> str:
        return (
            f"Source cached before: {self.before:.0%}, after: {self.after:.0%}; of the target"
            f" after: {self.target:.0%}. Another image, before: {self.others_before:.1%}, after:"
            f" {self.others_after:.1%}. {self.run.seconds:.2f} s."
        )


def _copied(place: Place, copy: Command, *, cached: bool) -> _Cached:
    _prepare(place.path(_SOURCE), cached=cached)
    run_text(place, f"cat {_BYSTANDER} > /dev/null")
    before, others = _resident(place, _SOURCE), _resident(place, _BYSTANDER)
    run = timed(place, copy)
    return _Cached(
        run,
        before,
        _resident(place, _SOURCE),
        _resident(place, _TARGET),
        others,
        _resident(place, _BYSTANDER),
    )


def _prepare(source: Path, *, cached: bool) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while cached and file.read(16 * MIB):
            pass


def _resident(place: Place, file: str) -> float:
    """The part of a file that is in the page cache."""
    argv = ["fincore", "--bytes", "--noheadings", "--output", "RES,SIZE", str(place.path(file))]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return int(told[0]) / int(told[1])
