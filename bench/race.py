"""A race: one command of ours and what people would type instead, run in turns.

After one run that does not count, whose result is checked, each is run as often as asked,
ours and the others one after the other. Only the command itself is timed. A command that
cannot be run, or whose result is wrong, is named in the report with the reason.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from bench.model import Contender, Demand, Failed, Result, Run
from bench.place import Place
from bench.processes import Usage, processor_time, watched

Action = Callable[[Place], None]
Judge = Callable[[Sequence[Contender]], Demand]
Remark = Callable[[Sequence[Contender]], str]


#: Seconds after which a command is taken to hang.
_LONGEST: Final = 900


def nothing(place: Place) -> None:
    """Neither to prepare nor to check."""


@dataclass(frozen=True)
class Command:
    """What is typed (bash, with {a} and {b} for the hosts' directories) and the `programs`
    that it needs; `before` prepares each run and `check` raises if the result is wrong.
    `made` is what it makes, to be measured."""

    name: str
    text: str
    programs: tuple[str, ...] = ()
    before: Action = nothing
    check: Action = nothing
    made: str = ""


@dataclass(frozen=True)
class Race:
    """A row of the table. Ours comes first. `remarks` make notes of the figures; `after` removes
    what the commands left."""

    name: str
    job: str
    commands: tuple[Command, ...]
    judges: tuple[Judge, ...]
    notes: tuple[str, ...] = ()
    after: Action = nothing
    remarks: tuple[Remark, ...] = ()

    def measure(self, place: Place, runs: int) -> Result:
        entered = [_enter(place, command) for command in self.commands]
        for _ in range(runs):
            pairs = zip(self.commands, entered, strict=True)
            entered = [_once_more(place, *pair) for pair in pairs]
        self.after(place)
        for command in self.commands:
            _clear(place, command)
        demands = tuple(judge(entered) for judge in self.judges)
        remarks = filter(None, (remark(entered) for remark in self.remarks))
        return Result(self.name, self.job, tuple(entered), demands, (*self.notes, *remarks))


def shell(text: str) -> Action:
    """What is typed before or after a run."""

    def act(place: Place) -> None:
        run_text(place, text)

    return act


def run_text(place: Place, text: str) -> str:
    """Run a line and return what it printed."""
    with _Started(place, text) as process:
        return _finished(process)


def timed(place: Place, command: Command) -> Run:
    command.before(place)
    os.sync()
    connections, here, there = place.connections(), _cpu_here(), _cpu_there(place)
    started = time.monotonic()
    with _Started(place, command.text) as process:
        printed = _finished(process)
    seconds = time.monotonic() - started
    place.settle(connections)
    here, there = _cpu_here() - here, _cpu_there(place) - there
    return Run(seconds, here + there, told(printed, "transferred"), there)


def told(printed: str, key: str) -> int | None:
    """A figure of a command that prints JSON."""
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(printed)[key])
    return None


def usage_of(place: Place, command: Command) -> Usage:
    """Run it, untimed, and watch its processes, on the other side as well."""
    command.before(place)
    connections = place.connections()
    with _Started(place, command.text) as process, watched(process.pid, place.daemons) as usage:
        _finished(process)
    place.settle(connections)
    return usage


def warm_up(place: Place, command: Command) -> Contender:
    """Its run that does not count."""
    usage = usage_of(place, command)
    command.check(place)
    made = place.path(command.made).stat().st_size if command.made else None
    return Contender(
        command.name,
        place.shown(command.text),
        made=made,
        peak=usage.bytes,
        peak_process=usage.process,
        shares=usage.shares(),
    )


def _enter(place: Place, command: Command) -> Contender:
    trouble = place.trouble(command.programs)
    if not trouble:
        try:
            return warm_up(place, command)
        except Failed as failed:
            trouble = str(failed)
    return Contender(command.name, place.shown(command.text), trouble=trouble)


def _once_more(place: Place, command: Command, contender: Contender) -> Contender:
    if contender.trouble:
        return contender
    try:
        run = timed(place, command)
    except Failed as failed:
        return replace(contender, trouble=str(failed), runs=())
    return replace(contender, runs=(*contender.runs, run))


def _clear(place: Place, command: Command) -> None:
    if command.made:
        place.path(command.made).unlink(missing_ok=True)


def _cpu_here() -> float:
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime


def _cpu_there(place: Place) -> float:
    return sum(map(processor_time, place.daemons))


class _Started:
    """A line in a session of its own, all of which is ended if we are interrupted."""

    def __init__(self, place: Place, text: str) -> None:
        self.process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", place.real(text)],
            env=place.environment,
            cwd=place.a,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, kind: object, *_: object) -> None:
        _end(self.process)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def _finished(process: subprocess.Popen[str]) -> str:
    try:
        printed, errors = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise Failed(f"was still running after {_LONGEST} s") from None
    if process.returncode:
        said = " ".join((errors + printed).split())[-300:]
        raise Failed(f"failed with status {process.returncode}: {said}")
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing of its session runs on, where it was not let come to its own end."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):  # the last of them has gone
        for number in (signal.SIGTERM, *[0] * 250, signal.SIGKILL):
            os.killpg(process.pid, number)
            process.poll()
            time.sleep(0.02)
    process.wait()
