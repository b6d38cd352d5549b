"""A copy that is killed when nine tenths are done, and begun again: what is left to do."""

from __future__ import annotations

import os
import signal

from bench import progress
from bench.model import Contender, Demand, Result, Run, ratio
from bench.place import Place
from bench.race import Command, shell, timed, usage_of

_CUT_AT = 0.9
_BEFORE = (
    "What there was of an archive of format 1 had to be decompressed to be compared: that took 0.57"
    " of the time of a whole copy."
)
_BYTES = 0.15


def measure_resume(place: Place, runs: int, *, archive: bool) -> Result:
    kind = "archive" if archive else "image"
    option = "--archive " if archive else ""
    text = f"virtstore copy {option}--json --progress {{a}}/solid.img b:{{b}}/out"
    clean = shell("rm -f {b}/out {b}/out.virtstore-partial*")
    whole = Command("the whole copy", text, before=clean)
    rest = Command("virtstore, the rest", text)
    peak = usage_of(place, whole).bytes
    pairs = [_pair(place, whole, rest) for _ in range(runs)]
    _check(place, archive=archive)
    clean(place)
    contenders = (
        _contender(place, rest, [second for _, second in pairs], peak),
        _contender(place, whole, [first for first, _ in pairs], peak),
    )
    job = f"go on with a copy to an {kind} on another host that was killed at 90 %"
    limit, notes = (0.3, (_BEFORE,)) if archive else (0.25, ())
    return Result(f"resume-{kind}", job, contenders, _demands(*contenders, limit), notes)


def _pair(place: Place, whole: Command, rest: Command) -> tuple[Run, Run]:
    first = timed(place, whole)
    whole.before(place)
    _cut(place, whole)
    return first, timed(place, rest)


def _cut(place: Place, command: Command) -> None:
    """Run it and kill the client when it says that it has come far enough."""
    connections = place.connections()
    with progress.started(place, command.text) as process:
        try:
            for event in progress.events(process):
                if 0 < _CUT_AT * event.total <= event.done:  # at first no total is known
                    break
        finally:
            os.kill(process.pid, signal.SIGKILL)
    place.settle(connections)


def _check(place: Place, *, archive: bool) -> None:
    if archive:
        shell("zstd -q -dc {b}/out | cmp - {a}/solid.img")(place)
    else:
        shell("cmp {a}/solid.img {b}/out")(place)


def _contender(place: Place, command: Command, runs: list[Run], peak: int) -> Contender:
    return Contender(command.name, place.shown(command.text), tuple(runs), peak=peak)


def _demands(rest: Contender, whole: Contender, limit: float) -> tuple[Demand, ...]:
    time = ratio(rest, whole)
    part = (
        rest.transferred / whole.transferred
        if rest.transferred is not None and whole.transferred
        else None
    )
    return (
        Demand("time of a whole copy", 1 / time if time else None, limit, False),
        Demand("bytes of a whole copy", part, _BYTES, False),
    )
