"""docs/benchmarks.md out of the figures, and the reasons why a row falls short out of
bench/notes.toml (a text for each row's name)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from bench.model import Apart, Contender, Demand, Document, Machine, Result, demanded, ratio

_INTRODUCTION = """\
# Benchmarks

virtstore's jobs beside what people would use instead. `make bench` makes the inputs out of the
machine's own files, runs all commands in turns, {runs} times each on warm caches after one run
that does not count, over real sshd on loopback, checks every result, and writes this page. Times
are medians. A ratio is the median over the pairs, a run of ours and one of the other's; CPU is
processor time on both sides, "of it there" that on the other host, sshd's included. The local side
is host a; `/a` and `/b` stand for the directories of the two hosts. Everything is flushed to the
disk before the clock stops, by virtstore and by the others. All single figures are in
[benchmarks.json](benchmarks.json).
"""
_INPUTS = """\
| input | is |
|---|---|
| `sparse.img` | 4 GiB, an ext4 file system with about 700 MB of files; the rest is holes |
| `full.img` | the same, wholly allocated |
| `changed.img` | the same, with 1 % of its 128 KiB blocks, anywhere, replaced by random bytes |
| `solid.img` | 4 GiB of files' contents, without holes |
| `huge.img` | 1 TiB with 1 MiB of files' contents in every GiB; `huge-same.img`: in 4 GiB |
"""


_COLUMNS = (
    "median",
    "fastest to slowest",
    "CPU",
    "of it there",
    "ratio",
    "made",
    "largest process",
)
_BY_END = """\
## Processor time by end

Who used it, in the run of each command that does not count, as seen fifty times a second: ours is
the client, and an agent for each end; `ssh` and `sshd` encrypt. Only what took 0.02 s or more.

| row | | here | there |
|---|---|---|---|
"""


def markdown(document: Document, notes: Path) -> str:
    why = tomllib.loads(notes.read_text()) if notes.exists() else {}
    parts = [
        _INTRODUCTION.format(runs=document.runs),
        _machine(document.machine),
        _INPUTS,
        "![Ratios](benchmarks-ratios.svg)\n",
        "\n".join(summary(document.results)) + "\n",
        *(_section(result, str(why.get(result.name, ""))) for result in document.results),
        *_ends(document.results),
        "![Time and memory against size](benchmarks-sizes.svg)\n",
    ]
    return "\n".join(parts)


def summary(results: tuple[Result, ...]) -> Iterator[str]:
    """One line for each demand."""
    yield "| row | demanded | measured | reached |"
    yield "|---|---|---:|---|"
    for row, demand in demanded(results):
        measured = _figure(demand.value, demand.unit)
        yield _line(row, _wanted(demand), measured, _answer(demand))


def figures(result: Result) -> Iterator[str]:
    """One line for each contender."""
    yield f"| | {' | '.join(_COLUMNS)} |"
    yield "|---|" + "---:|" * len(_COLUMNS)
    ours = result.contenders[0]
    for each in result.contenders:
        if each.trouble:
            yield _line(each.name, each.trouble, *("" for _ in _COLUMNS[1:]))
            continue
        times = [run.seconds for run in each.runs]
        spread = f"{min(times):.2f} to {max(times):.2f} s" if times else "-"
        against = None if each is ours else ratio(ours, each)
        yield _line(
            each.name,
            _seconds(each.seconds),
            spread,
            _seconds(each.cpu),
            _seconds(each.there or None),
            _figure(against, "×"),
            _size(each.made),
            _size(each.peak) if each.command.startswith("virtstore") else "-",
        )


def _section(result: Result, why: str) -> str:
    lines = [f"## {result.name}", "", f"{result.job[:1].upper()}{result.job[1:]}.", ""]
    lines += figures(result)
    lines += ["", "```", *(each.command for each in _distinct(result)), "```", ""]
    lines += [_apart(result.apart)] if result.apart else []
    lines += [f"{note}\n" for note in (*result.notes, *_moved(result), why.strip()) if note]
    return "\n".join(lines)


def _ends(results: tuple[Result, ...]) -> Iterator[str]:
    """A table of what each end's programs used, in rows that have two ends."""
    lines = [
        _line(result.name, each.name, _shares(each, "here"), _shares(each, "there"))
        for result in results
        for each in result.contenders
        if any(share.end == "there" for share in each.shares)
    ]
    if lines:
        yield _BY_END + "\n".join(lines) + "\n"


def _shares(contender: Contender, end: str) -> str:
    ours = [share for share in contender.shares if share.end == end]
    return ", ".join(f"{share.program} {share.seconds:.2f} s" for share in ours) or "-"


def _line(*cells: str) -> str:
    """A row of a table; a pipe in a cell is not the end of it."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _distinct(result: Result) -> Iterator[Contender]:
    """Without those that differ in nothing but the input's size, or are the same command."""
    seen: set[str] = set()
    for each in result.contenders:
        if each.command not in seen:
            seen.add(each.command)
            yield each


def _moved(result: Result) -> Iterator[str]:
    for each in result.contenders:
        if each.transferred is not None:
            yield f"{each.name}: {each.transferred / 1e6:.1f} MB over the wire."


def _machine(machine: Machine) -> str:
    versions = "\n".join(_line(name, said) for name, said in machine.versions.items())
    return (
        f"{machine.date}; {machine.cores} cores of {machine.processor},"
        f" {machine.memory / (1 << 30):.0f} GiB of memory, Linux {machine.kernel},"
        f" {machine.file_system}.\n\n| program | version |\n|---|---|\n{versions}\n"
    )


def _apart(apart: Apart) -> str:
    ours = apart.machine.versions["virtstore"]
    return (
        f"Measured apart from the other rows: {apart.machine.date}, {apart.runs} runs, virtstore"
        f" {ours}, Linux {apart.machine.kernel}.\n"
    )


def _answer(demand: Demand) -> str:
    if demand.value is None:
        return "not measured"
    return "yes" if demand.reached else "**no**"


def _wanted(demand: Demand) -> str:
    sign = "≥" if demand.at_least else "≤"
    return f"{demand.what} {sign} {demand.limit:.3g} {demand.unit}"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _size(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.0f} MB"
