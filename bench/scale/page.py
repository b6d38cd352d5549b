"""docs/scale.md, out of the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from bench.scale import requests
from bench.scale.figures import HOST, LINK, TARGET, Costs, Fleet
from bench.scale.simulate import (
    Kind,
    limit_of_host,
    limit_of_target,
    load_of,
    night,
    targets_needed,
)
from virtstore.digest import CHUNK
from virtstore.formats.seek_table import ENTRY

KINDS: Final = (
    Kind("every backup whole", None),
    Kind("1 % changed", 0.01),
    Kind("3 % changed", 0.03),
    Kind("10 % changed", 0.1),
)
#: Of each image there is one for each night of a month, and some older.
_KEPT: Final = 50
#: Bytes of a disk, of which none is left for what RAID and file systems take.
_DISK: Final = 20e12
#: Hosts that are asked at a time, and seconds until one has answered.
_ASKED: Final = 50
_ROUND: Final = 0.5
#: Where an archive is read for a listing: its beginning, its end, and the heads of what is between.
_PLACES: Final = 4

_INTRODUCTION: Final = """\
# At scale

What {hosts} hosts, {images} images and {size} a night need: computed, by `python -m bench.scale`,
from unit costs that were measured on one small machine, that of the
[benchmarks](benchmarks.md). Nobody has run it at this size. The costs are processor time and bytes,
which a busy machine falsifies less than seconds; [below](#what-was-measured) is each, with its
command and with how many images, archives or hosts it was measured. GB is 10^9 bytes. Where yours
differ, measure them (`--measure`; with `--replace` also in place of those that were measured with
more) and write the page again (`--write`).

## What to do about it

- Let each host back itself up, by its own timer ([how](howto/nightly-backups.md)). A client that
  copies from `a:` to `b:` has all bytes go through it.
- Give each host a directory of its own on a target: one of a million archives works
  ([below](#a-directory-with-a-million-archives)), and every run that adds to it reads all of it
  first.
- Spread the starts: the timers do, over an hour (`RandomizedDelaySec`). An sshd lets in ten
  logins at a time (`MaxStartups 10:30:100`); on a target of hundreds of hosts write `MaxStartups
  200:30:400`.
- A target that shares blocks (XFS, Btrfs) stores and writes what changed; on others the rest is
  copied there.
- Add targets, and not a larger one, when a night gets too long: nothing is shared between them.
"""
_NIGHT: Final = """\
## A night

Each host has {per_host} images, works at {at_once} at a time, and gives that {host_cores}
processors, disks that read {host_read}/s and {host_network}/s of network. A target has
{target_cores} processors, disks that write {target_write}/s and {target_network}/s of network.
Sizes are spread as those of machines are, a few of them very large; a night has {window} hours.
"Limit" is what runs out first.

| | wire, room | hosts' processors | targets' | a host's limit | a target's | targets | ends after |
|---|---:|---:|---:|---|---|---:|---:|
"""
_NIGHT_NOTE: Final = """
Processors are hours of one. What changed is found by reading all of an image, at its host; so
whatever a night copies, it reads {size}, and the disks of a host have to give it that.
"""
_ROOM: Final = """\
## Room on the targets

{kept} backups of each image. Where blocks are shared, the first takes all and each other one what
it moves. A target without shared blocks copies the unchanged part on its own disks, and keeps it
again: it then has the bytes of the first line to write each night. Disks are counted without those
for RAID. A copy writes from the
beginning of its file to the end, so disks seek between the copies that run at a time, and not
within one; what is restored from a file of shared blocks is read in as many pieces as it was
changed in.

| | a night | all that is kept | disks of 20 TB | copies at a time on a target | each writes |
|---|---:|---:|---:|---:|---:|
"""
_SESSIONS: Final = """\
## Sessions

| | |
|---|---:|
"""
_SESSIONS_NOTE: Final = """
No more than 50 hosts are asked at a time, however many are named
([how they are told](reference/output.md#many-hosts)).
"""
_LISTING: Final = """\
## A directory with a million archives

{archives} archives of {images} images, in one directory. `backups` tells of all of them; what it
does not tell it does not keep. Of each archive it reads the beginning and the end, and with the end
a table of 12 bytes for each MiB of the image in which anything is written: here, for all of it.

| | a million in one directory | {kept_each} in a host's own |
|---|---:|---:|
"""
_OBJECTS: Final = """\
## Objects in a bucket

A backup is one object, sent in parts of 8 MiB, and larger ones behind the first thousand. What
did not change is copied on the server's side, where there are 5 MiB of it in a row: so each place
that changed (here: 1 MiB of the image) sends 5 MiB and more, and from a few percent on nothing is
gained. {link}/s go to the bucket.

| | objects | requests that write | a second | sent | on that link |
|---|---:|---:|---:|---:|---:|
"""
_OBJECTS_NOTE: Final = """
`backups` of {archives} of them takes {pages} requests of a thousand keys each, and one for the
newest of each of the {images} images.
"""
_MEASURED: Final = """\
## What was measured

| | | | with | by | on |
|---|---:|---|---:|---|---|
"""


def markdown(costs: Costs, fleet: Fleet) -> str:
    """The page."""
    said = {
        "hosts": f"{fleet.hosts:,}",
        "images": f"{fleet.images:,}",
        "size": size(fleet.size),
        "per_host": fleet.images // fleet.hosts,
        "at_once": fleet.at_once,
        "host_cores": f"{HOST.cores:g}",
        "host_read": size(HOST.read),
        "host_network": size(HOST.network),
        "target_cores": f"{TARGET.cores:g}",
        "target_write": size(TARGET.write),
        "target_network": size(TARGET.network),
        "window": f"{fleet.window / 3600:g}",
        "kept": _KEPT,
        "archives": f"{fleet.images * _KEPT:,}",
        "kept_each": f"{fleet.images * _KEPT // fleet.hosts:,}",
        "pages": f"{fleet.images * _KEPT // 1000:,}",
        "link": size(LINK),
    }
    parts = [
        _INTRODUCTION.format(**said),
        _NIGHT.format(**said) + _lines(_nights(costs, fleet)) + _NIGHT_NOTE.format(**said),
        _ROOM.format(**said) + _lines(_rooms(costs, fleet)),
        _SESSIONS + _lines(_sessions(costs, fleet)) + _SESSIONS_NOTE,
        _LISTING.format(**said) + _lines(_listing(costs, fleet)),
        _OBJECTS.format(**said) + _lines(_objects(costs, fleet)) + _OBJECTS_NOTE.format(**said),
        _MEASURED + _lines(_measured(costs)),
    ]
    return "\n".join(parts)


def _nights(costs: Costs, fleet: Fleet) -> Iterator[Sequence[str]]:
    for kind in KINDS:
        load = load_of(costs, kind)
        needed = targets_needed(fleet, load, HOST, TARGET)
        found = night(fleet, load, HOST, TARGET, needed or fleet.hosts)
        yield (
            kind.name,
            size(load.wire * fleet.size),
            f"{load.host_cpu * fleet.size / 3600:,.0f} h",
            f"{load.target_cpu * fleet.size / 3600:,.0f} h",
            found.host.by,
            found.target.by,
            "no number helps" if needed is None else str(needed),
            f"{found.ended / 3600:.1f} h",
        )


def _rooms(costs: Costs, fleet: Fleet) -> Iterator[Sequence[str]]:
    first = load_of(costs, KINDS[0]).wire * fleet.size
    for kind in KINDS:
        load = load_of(costs, kind)
        needed = targets_needed(fleet, load, HOST, TARGET) or fleet.hosts
        copies = fleet.hosts * fleet.at_once / needed
        moved = load.wire * fleet.size
        kept = first + (_KEPT - 1) * moved
        of_host = limit_of_host(load, HOST).rate / fleet.at_once
        rate = min(limit_of_target(load, TARGET).rate / copies, of_host)
        yield (
            kind.name,
            size(moved),
            size(kept),
            f"{math.ceil(kept / _DISK)}",
            f"{copies:.0f}",
            f"{size(rate * load.wire)}/s",
        )


def _sessions(costs: Costs, fleet: Fleet) -> Iterator[Sequence[str]]:
    copies = fleet.hosts * fleet.at_once
    ssh, agent, sshd = costs["ssh-memory"], costs["agent-memory"], costs["sshd-memory"]
    copying = costs["copy-target-memory"]
    threads, descriptors = costs["client-threads"], costs["client-descriptors"]
    yield f"sessions on all targets while {copies:,} copies run", f"{copies:,}"
    yield "memory on the targets, each with its agent and sshd", size(copies * (copying + sshd))
    rounds = -(-fleet.hosts // _ASKED)
    client = costs["ask-client-cpu"] * fleet.hosts
    yield f"`storage-info` of {fleet.hosts} hosts: processor of the client", f"{client:.0f} s"
    yield "of each host", f"{costs['ask-host-cpu']:.2f} s"
    memory = costs["client-memory"] + _ASKED * ssh
    yield f"memory of the client with its {_ASKED} ssh", size(memory)
    yield "its threads and descriptors", f"{threads:.0f} and {descriptors:.0f}"
    yield "memory of each host", size(agent + sshd)
    slowest = max(rounds * _ROUND, client)
    yield f"time, with one processor and answers after {_ROUND:g} s", f"{slowest:.0f} s"
    images = fleet.images * costs["list-image-cpu"] / fleet.hosts
    yield (
        f"`list -l` of all {fleet.images:,} images: more processor, of each host",
        f"{images:.2f} s",
    )
    yield "of the client", seconds(fleet.images * costs["list-image-client-cpu"])
    yield "and more memory of the client", size(fleet.images * costs["list-image-memory"])


def _listing(costs: Costs, fleet: Fleet) -> Iterator[Sequence[str]]:
    whole = fleet.images * _KEPT
    own = whole // fleet.hosts

    def row(what: str, one: str, unit: str, base: str | None = None) -> Sequence[str]:
        values = [count * costs[one] + (costs[base] if base else 0) for count in (whole, own)]
        texts = [size(v) if unit == "bytes" else seconds(v) for v in values]
        return what, *texts

    each = fleet.size / fleet.images
    at_host = costs["archive-agent-cpu"] + each / 1e9 * costs["archive-size-cpu"]
    table = each / CHUNK * ENTRY.size
    yield "processor of its host", seconds(whole * at_host), seconds(own * at_host)
    yield "read from its disks", size(whole * table), size(own * table)
    yield "at so many places", f"{whole * _PLACES:,}", f"{own * _PLACES:,}"
    yield row("processor of the client", "archive-client-cpu", "s")
    yield row("bytes over the wire", "archive-wire", "bytes")
    yield row("memory of the agent", "archive-agent-memory", "bytes", "agent-memory")
    yield row("memory of the client", "archive-client-memory", "bytes", "client-memory")
    yield row("JSON of it", "archive-json", "bytes")
    nightly, removal = fleet.images, costs["prune-removed-cpu"]
    yield (
        "`prune` of a night's: to list, and to remove as many as came",
        seconds(whole * at_host + nightly * removal),
        seconds(own * at_host + nightly / fleet.hosts * removal),
    )


def _objects(costs: Costs, fleet: Fleet) -> Iterator[Sequence[str]]:
    for kind in KINDS:
        one = requests.of_backup(fleet.size / fleet.images, costs["compressed"], kind.changed)
        total = one.requests * fleet.images
        yield (
            kind.name,
            f"{fleet.images:,}",
            f"{total / 1e6:,.1f} million",
            f"{total / fleet.window:,.0f}",
            size(one.sent * fleet.images),
            f"{one.sent * fleet.images / LINK / 3600:.1f} h",
        )


def _measured(costs: Costs) -> Iterator[Sequence[str]]:
    for name, figure in sorted(costs.figures.items()):
        value = (
            size(figure.value) if figure.unit == "bytes" else f"{figure.value:.3g} {figure.unit}"
        )
        count = "" if figure.count is None else f"{figure.count:,}"
        yield f"`{name}`", value, figure.what, count, f"`{figure.command}`", figure.date


def _lines(rows: Iterator[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def size(value: float) -> str:
    """Bytes with a unit of powers of 1000, and three digits."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} PB"


def seconds(value: float) -> str:
    """A time in a unit that suits it."""
    if value < 90:
        return f"{value:.2g} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
