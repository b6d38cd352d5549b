"""The unit costs: out of docs/benchmarks.json, and measured here over sshd on loopback.

Whole copies and those of which 1 % had changed are rows of the benchmarks. Listings, removals and
sessions are measured here: a directory of backups that are hard links to few small files, and one
host under fifty names.

Host tools needed: those of `make bench`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.model import Contender, Document, named
from bench.place import Place, opened
from bench.processes import Usage
from bench.race import Command, run_text, timed, usage_of
from bench.scale.figures import Costs, Figure
from virtstore.digest import CHUNK

_BENCHMARKS: Final = Path(__file__).parent.parent.parent / "docs" / "benchmarks.json"
#: Bytes of the image of the rows `incremental`, and the part of it that had changed.
_DISK: Final = 4 << 30
_CHANGED: Final = 0.01
_IMAGES: Final = 10_000  # of the row `list`
_OF_EACH: Final = 50
_HOSTS: Final = 50
#: Archives of an image of so many bytes, with some data in each chunk of it.
_OF_LARGE: Final = 1000
_LARGE: Final = 12 << 30


def measured(archives: int) -> Costs:
    """All figures; listings of so many archives."""
    figures = dict(_of_benchmarks(msgspec.json.decode(_BENCHMARKS.read_bytes(), type=Document)))
    with opened(None, small=True) as place:
        figures |= dict(_of_sessions(place))
        figures |= dict(_of_backups(place, archives))
        figures |= dict(_of_large_backups(place))
    return Costs(figures)


def _of_benchmarks(document: Document) -> Iterator[tuple[str, Figure]]:
    def figure(
        name: str, value: float, unit: str, what: str, of: Contender, count: int | None = None
    ) -> tuple[str, Figure]:
        command = of.command.partition(" | ")[0]
        return name, Figure(value, unit, what, command, document.machine.date, count)

    rows = {result.name: result.contenders for result in document.results}
    first = named(rows["incremental"], "virtstore, the first")
    later = named(rows["incremental"], "virtstore, 1 % changed")
    size, same = _DISK / 1e9, _DISK / 1e9 * (1 - _CHANGED)
    here, there = _ends(first)
    wire = first.transferred or 0
    yield figure("full-host-cpu", here / size, "s/GB", "a whole backup, at its host", first)
    yield figure("full-target-cpu", there / size, "s/GB", "and at its target", first)
    yield figure("compressed", wire / _DISK, "of a byte", "its bytes over the wire", first)
    told, took = "the unchanged part of a backup", _ends(later)
    yield figure("same-host-cpu", (took[0] - _CHANGED * here) / same, "s/GB", told, later)
    yield figure(
        "same-target-cpu", (took[1] - _CHANGED * there) / same, "s/GB", "and at its target", later
    )
    less = ((later.transferred or 0) - _CHANGED * wire) / (_DISK * (1 - _CHANGED))
    yield figure("same-wire", less, "of a byte", "its bytes over the wire", later)
    listing = rows["list"][0]
    shares = {share.program: share.seconds for share in listing.shares}
    told = "an image in `list -l`, at its host"
    yield figure("list-image-cpu", shares["agent"] / _IMAGES, "s", told, listing, _IMAGES)
    told = "and at the client"
    yield figure("list-image-client-cpu", shares["client"] / _IMAGES, "s", told, listing, _IMAGES)
    peak = float(named(rows["sizes"], "4 GiB").peak or 0)
    whose = named(rows["sizes"], "4 GiB")
    yield figure("copy-target-memory", peak, "bytes", "the largest process of a copy", whose)


def _ends(contender: Contender) -> tuple[float, float]:
    """Processor time here and there, each the median of the runs."""
    there = contender.there or 0
    return median(run.cpu - (run.there or 0) for run in contender.runs), there


def _of_sessions(place: Place) -> Iterator[tuple[str, Figure]]:
    """What it costs to ask fifty hosts something small."""
    keys = place.scratch / "keys" / "ssh_config"
    block = keys.read_text().partition("Host b\n")[2].partition("\nHost ")[0]
    with keys.open("a") as file:
        file.write(f"\nHost node*\n{block}\n")
    hosts = place.scratch / "config" / "virtstore" / "hosts.toml"
    agent = hosts.read_text().partition("[hosts.b]\n")[2].partition("\n[")[0]
    with hosts.open("a") as file:
        file.writelines(f"\n[hosts.node{n:02}]\n{agent}\n" for n in range(1, _HOSTS + 1))
    typed = f"virtstore storage-info node{{01..{_HOSTS:02}}} --json"
    names = " ".join(f"node{n:02}" for n in range(1, _HOSTS + 1))
    command = Command("ask", f"virtstore storage-info {names} --json")
    usage = usage_of(place, command)
    run = timed(place, command)
    there = run.there or 0
    here = run.cpu - there
    for name, seconds, what in (
        ("ask-client-cpu", here, "a host asked, client"),
        ("ask-host-cpu", there, "a host asked, agent and sshd there"),
    ):
        yield _now(name, seconds / _HOSTS, "s", what, typed, _HOSTS)
    for name, end, program, what in (
        ("client-memory", "here", "client", "the client of many hosts"),
        ("ssh-memory", "here", "ssh", "each of its ssh"),
        ("agent-memory", "there", "agent", "an agent"),
        ("sshd-memory", "there", "sshd", "the sshd of a session"),
    ):
        yield _now(name, usage.peaks[end, program], "bytes", what, typed, _HOSTS)


def _of_backups(place: Place, archives: int) -> Iterator[tuple[str, Figure]]:
    """What it costs to list very many backups, and to remove some."""
    directory = place.b / "backups"
    _make_backups(place, directory, archives)
    out, wire = place.scratch / "out.json", place.scratch / "wire"
    typed = "virtstore backups b:/backups --json"
    command = Command("backups", f"virtstore backups b:{directory} --json > {out}")
    usage = usage_of(place, command)
    place.environment["BENCH_SSH_LOG"] = str(wire)
    run_text(place, command.text)
    del place.environment["BENCH_SSH_LOG"]
    moved = _moved(wire.read_text(errors="replace"))
    agent, client = _seconds(usage, "there", "agent"), _seconds(usage, "here", "client")
    for name, whole, unit, what in (
        ("archive-agent-cpu", agent, "s", "an archive in `backups`, at its host"),
        ("archive-client-cpu", client, "s", "and at the client"),
        ("archive-wire", moved, "bytes", "an archive in `backups`, over the wire"),
        ("archive-json", out.stat().st_size, "bytes", "in JSON"),
    ):
        yield _now(name, whole / archives, unit, what, typed, archives)
    run_text(place, f"virtstore backups b:{place.b}/few --json")
    few = usage_of(place, Command("few", f"virtstore backups b:{place.b}/few --json"))
    for name, end, program, what in (
        ("archive-agent-memory", "there", "agent", "memory of the agent, more than for none"),
        ("archive-client-memory", "here", "client", "memory of the client, more than for none"),
    ):
        grown = usage.peaks[end, program] - few.peaks[end, program]
        yield _now(name, grown / archives, "bytes", what, typed, archives)
    typed = f"virtstore prune b:/backups --keep-last {_OF_EACH - 1}"
    text = typed.replace("b:/backups", f"b:{directory}")
    removal = usage_of(place, Command("prune", f"{text} --json > {out}"))
    removed = sum(
        backup["removed"]
        for one in json.loads(out.read_text())["series"]
        for backup in one["backups"]
    )
    more = _seconds(removal, "there", "agent") - agent
    what = "a backup removed, at its host"
    yield _now("prune-removed-cpu", more / removed, "s", what, typed, archives)


def _of_large_backups(place: Place) -> Iterator[tuple[str, Figure]]:
    """What it costs more to list a backup the larger its image is: its seek table is read."""
    image = place.a / "large.img"
    with image.open("wb") as file:
        file.truncate(_LARGE)
        for at in range(0, _LARGE, CHUNK):  # else it were zeros, which take no room in the table
            file.seek(at)
            file.write(os.urandom(512))
    run_text(place, f"virtstore copy -q --archive {image} b:{place.b}/large.img.zst")
    large, small = (_listing_of_many(place, name) for name in ("large", "s"))
    each = (large - small) / _OF_LARGE / (_LARGE / 1e9)
    what, typed = "each GB of its image, at its host", "virtstore backups b:/large --json"
    yield _now("archive-size-cpu", each, "s/GB", what, typed, _OF_LARGE)


def _listing_of_many(place: Place, name: str) -> float:
    """The agent's seconds of processor for a listing of links to one archive."""
    directory = place.b / f"many-{name}"
    directory.mkdir()
    for number in range(_OF_LARGE):
        link = directory / f"vm-{number:04}.2026-10-01T020000Z.img.zst"
        os.link(place.b / f"{name}.img.zst", link)
    command = Command("listing", f"virtstore backups b:{directory} --json")
    return _seconds(usage_of(place, command), "there", "agent")


def _make_backups(place: Place, directory: Path, archives: int) -> None:
    run_text(place, "head -c 4096 /dev/urandom > {scratch}/s.img".replace("{scratch}", "{a}"))
    run_text(place, "virtstore copy -q --archive {a}/s.img b:{b}/s.img.zst")
    whole = (place.b / "s.img.zst").read_bytes()
    (place.b / "few").mkdir()
    directory.mkdir()
    pool = place.b / "pool"
    pool.mkdir()
    files = [pool / str(number) for number in range(max(archives // 10, 1))]
    for file in files:
        file.write_bytes(whole)
    first = datetime(2026, 10, 1, 2, tzinfo=UTC)
    nights = [f"{first + timedelta(days=day):%Y-%m-%dT%H%M%SZ}" for day in range(_OF_EACH)]
    names = (f"vm-{n:05}.{night}.img.zst" for n in range(archives // _OF_EACH) for night in nights)
    for number, name in enumerate(names):
        os.link(files[number % len(files)], directory / name)
    subprocess.run(["sync", "-f", str(directory)], check=True)


def _moved(log: str) -> int:
    """The bytes that came over a connection, as ssh says at its end."""
    return sum(map(int, re.findall(r"Transferred: sent \d+, received (\d+) bytes", log)))


def _seconds(usage: Usage, end: str, program: str) -> float:
    return sum(s.seconds for s in usage.shares() if (s.end, s.program) == (end, program))


def _now(
    name: str, value: float, unit: str, what: str, command: str, count: int
) -> tuple[str, Figure]:
    return name, Figure(float(value), unit, what, command, f"{datetime.now(UTC):%Y-%m-%d}", count)
