"""Power cuts during operations on volumes, and what a fresh boot finds after each.

A boot costs seconds, so each does two things (see `cut_victim.py`): it judges the cut
before it and runs into the next one. The two lie on disks and in volume groups of their
own, one thick, one thin, and so cuts alternate between them. Before a cut its disk is a
copy of the one that was prepared once.

A cut comes exactly before or after a step, which is one LVM command, or some time after
one began: within it, or in what follows.
"""

from __future__ import annotations

import random
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import msgspec

from .cut_judge import Look, Settle, Verdict
from .cut_operations import GROUPS, Kind, Operation
from .cut_victim import Plan, Run
from .machine import Crashed, LabError, Machine
from .uml import Lab

_DISK: Final = 72 << 20
#: Seconds within which a machine must have come to where its power is cut.
_TIMEOUT: Final = 180
#: The longest time after a step's beginning: it and most of what follows take less.
_LATEST: Final = 0.6


@dataclass(frozen=True)
class Moment:
    """`delay` seconds after `marker` was printed; None: right there, where the step is held."""

    marker: str
    delay: float | None = None

    def __str__(self) -> str:
        return self.marker if self.delay is None else f"{self.delay:.3f} s from {self.marker}"


@dataclass(frozen=True)
class Cut:
    """`settle`: what is done about its leftovers."""

    operation: str
    kind: Kind
    moment: Moment
    settle: Settle

    def __str__(self) -> str:
        return f"{self.operation}, {self.kind}, cut {self.moment}, then {self.settle}"


@dataclass(frozen=True)
class Outcome:
    cut: Cut
    verdict: Verdict

    def __str__(self) -> str:
        return "; WRONG: ".join((f"{self.cut}: {self.verdict.found}", *self.verdict.problems))


def at_every_step(operation: Operation) -> list[Cut]:
    """Before and after each of its LVM commands, thick and thin; what is cleaned of the one
    kind is run again for the other."""
    settles: list[tuple[str, Settle, Settle]] = [
        ("before", "again", "clean"),
        ("after", "clean", "again"),
    ]
    return [
        Cut(operation.name, kind, Moment(f"{when} {number} {step}"), settle)
        for number in range(1, len(operation.steps) + 1)
        for when, thick, thin in settles
        for kind, settle in zip(GROUPS, (thick, thin), strict=True)
        for step in operation.steps_of(kind)[number - 1 : number]
    ]


def at_random(operation: Operation, count: int, chance: random.Random) -> list[Cut]:
    """At moments that nobody chose, in turn thick and thin, cleaned and run again."""
    kinds: list[Kind] = ["thick", "thin"]
    markers = {
        kind: ["begin", *(f"before {n} {s}" for n, s in enumerate(operation.steps_of(kind), 1))]
        for kind in kinds
    }
    settles: list[Settle] = ["clean", "clean", "again", "again"]
    return [
        Cut(
            operation.name,
            kinds[n % 2],
            Moment(chance.choice(markers[kinds[n % 2]]), chance.uniform(0, _LATEST)),
            settles[n % 4],
        )
        for n in range(count)
    ]


class Lightning:
    """A lab whose power is cut again and again."""

    def __init__(self, directory: Path) -> None:
        self._lab = Lab(directory, [_DISK] * len(GROUPS), memory=512 << 20)
        self._disks: dict[Kind, Path] = dict(zip(GROUPS, self._lab.disks, strict=True))
        prepared = self._lab.run(_victim(None), timeout=_TIMEOUT).check()
        self._free = msgspec.json.decode(prepared.stdout, type=dict[Kind, int])
        for disk in self._disks.values():
            shutil.copyfile(disk, disk.with_suffix(".prepared"))

    def strike(self, cuts: Iterable[Cut]) -> Iterator[Outcome]:
        """Make each cut and judge what it left. Raises `LabError` where a machine does not
        get to the moment of its cut."""
        last: Cut | None = None
        for cut in alternating(cuts):
            verdict = self._boot(last, cut)
            if last:
                assert verdict
                yield Outcome(last, verdict)
            last = cut

    def _boot(self, last: Cut | None, cut: Cut | None) -> Verdict | None:
        look = Look(last.operation, last.kind, last.settle, self._free[last.kind]) if last else None
        with self._lab.boot(_victim(Plan(look, self._ready(cut)))) as machine:
            if cut:
                _wait_for(machine, cut)
            else:
                machine.wait(_TIMEOUT).check()
            said = machine.cut_power().stdout
        shutil.rmtree(machine.directory)
        lines = [line for line in said.splitlines() if line.startswith(b"{")]
        return msgspec.json.decode(lines[0], type=Verdict) if lines else None

    def _ready(self, cut: Cut | None) -> Run | None:
        """Put the disk of the next cut back to what it was prepared as."""
        if cut is None:
            return None
        disk = self._disks[cut.kind]
        shutil.copyfile(disk.with_suffix(".prepared"), disk)
        return Run(cut.operation, cut.kind, cut.moment.marker if cut.moment.delay is None else "")


def alternating(cuts: Iterable[Cut]) -> Iterator[Cut | None]:
    """The cuts, thick and thin in turn, with None where a boot is for judging only."""
    queues: dict[Kind, list[Cut]] = {"thick": [], "thin": []}
    for cut in cuts:
        queues[cut.kind].append(cut)
    pairs = zip_longest(queues["thick"], queues["thin"])
    last: Cut | None = None
    for cut in (cut for pair in pairs for cut in pair if cut):
        if last and last.kind == cut.kind:
            yield None
        yield cut
        last = cut
    yield None


def _wait_for(machine: Machine, cut: Cut) -> None:
    """Until the moment has come. An operation that is over by then has simply been done."""
    try:
        machine.wait_for(b"begin\n", _TIMEOUT)
        machine.wait_for(f"{cut.moment.marker}\n".encode(), _TIMEOUT)
    except Crashed as error:
        raise LabError(f"{cut}: {error}") from None
    time.sleep(cut.moment.delay or 0)


def _victim(plan: Plan | None) -> str:
    return shlex.join(
        [sys.executable, "-m", "tests.lab.cut_victim", msgspec.json.encode(plan).decode()]
    )
