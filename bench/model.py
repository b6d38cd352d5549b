"""What was measured, as frozen values: they are the keys of docs/benchmarks.json.

A `Result` is one row: contenders, ours first, and what was demanded of ours. Seconds are
elapsed, `cpu` seconds of all processes on both sides, `there` those on the other host, sizes
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec


class Failed(Exception):
    """A command, or the check of its result, did not succeed."""


class Run(msgspec.Struct, frozen=True):
    """One run. `transferred`: bytes over the wire, where the command tells (virtstore)."""

    seconds: float
    cpu: float
    transferred: int | None = None
    there: float | None = None


class Share(msgspec.Struct, frozen=True):
    """Processor time of one end's processes that run the same program. `end`: here or there."""

    end: str
    program: str
    seconds: float


class Contender(msgspec.Struct, frozen=True):
    """One command and its runs. `trouble` says why there are none; `made` is the size of what
    it made, `peak` the most that any of its processes had resident; `shares` is the processor
    time of the run that does not count, by end."""

    name: str
    command: str
    runs: tuple[Run, ...] = ()
    trouble: str = ""
    made: int | None = None
    peak: int | None = None
    peak_process: str = ""
    shares: tuple[Share, ...] = ()

    @property
    def seconds(self) -> float | None:
        return median(run.seconds for run in self.runs) if self.runs else None

    @property
    def cpu(self) -> float | None:
        return median(run.cpu for run in self.runs) if self.runs else None

    @property
    def there(self) -> float | None:
        told = [run.there for run in self.runs if run.there is not None]
        return median(told) if told else None

    @property
    def transferred(self) -> float | None:
        told = [run.transferred for run in self.runs if run.transferred is not None]
        return median(told) if told else None


class Demand(msgspec.Struct, frozen=True):
    """`value` is to be at least, or at most, `limit`; None where it could not be measured."""

    what: str
    value: float | None
    limit: float
    at_least: bool
    unit: str = "×"

    @property
    def reached(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit


#: What is demanded of every row, and reported as one.
MEMORY = "resident in one process"


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured; `versions` by program."""

    date: str
    processor: str
    cores: int
    memory: int
    kernel: str
    file_system: str
    versions: dict[str, str]


class Apart(msgspec.Struct, frozen=True):
    """Where and how often a row was measured that was added to a document afterwards."""

    machine: Machine
    runs: int


class Result(msgspec.Struct, frozen=True):
    name: str
    job: str
    contenders: tuple[Contender, ...]
    demands: tuple[Demand, ...] = ()
    notes: tuple[str, ...] = ()
    apart: Apart | None = None


class Document(msgspec.Struct, frozen=True):
    machine: Machine
    runs: int
    small: bool
    results: tuple[Result, ...]

    def with_rows_of(self, other: Document) -> Document:
        """This one with the rows that were measured in another run, in place of those of the same
        names, or behind all."""
        apart = Apart(other.machine, other.runs)
        rows = {result.name: result for result in self.results}
        for result in other.results:
            rows[result.name] = msgspec.structs.replace(result, apart=apart)
        return msgspec.structs.replace(self, results=tuple(rows.values()))


def ratio(ours: Contender, peer: Contender) -> float | None:
    """How many times as long the peer takes: the median of the pairs, each run one after the
    other, so that a slow minute of the machine slows both."""
    pairs = list(zip(ours.runs, peer.runs, strict=False))
    return median(p.seconds / o.seconds for o, p in pairs) if pairs else None


def named(contenders: Sequence[Contender], name: str) -> Contender:
    return next(each for each in contenders if each.name == name)


def demanded(results: Sequence[Result]) -> Iterator[tuple[str, Demand]]:
    """Every row's name with what is demanded of it; memory once, where it was most."""
    for result in results:
        yield from ((result.name, each) for each in result.demands if each.what != MEMORY)
    memory = [each for result in results for each in result.demands if each.what == MEMORY]
    if memory:
        yield "memory", max(memory, key=lambda each: each.value or 0)
