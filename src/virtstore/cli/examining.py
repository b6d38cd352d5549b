"""The commands that look at a host as a whole: doctor and jobs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from virtstore.cli.many_hosts import answers, on_each_host
from virtstore.cli.options import Common, Timeout, seconds_of
from virtstore.cli.render import print_json, print_notice
from virtstore.cli.table import Cell, Column, table
from virtstore.cli.terminal import Style, screen_of
from virtstore.client.api import Host
from virtstore.client.examination import in_order
from virtstore.errors import Error, spelled
from virtstore.location import Location, parse_host
from virtstore.model import Finding, Job
from virtstore.progress import ProgressCallback
from virtstore.units import format_size

_DEFAULTS: Final = Common()


def doctor(
    host: str = "local:", /, *more: str, timeout: Timeout = None, options: Common = _DEFAULTS
) -> int:
    """Find what could go wrong on a host, and what to do about it.

    It looks at the host itself and at the way to it. Exits 1 where there is a problem or a warning,
    also where a host cannot be reached; a note alone leaves the status 0. Up to 50 hosts are looked
    at at the same time.

    Parameters
    ----------
    host
        HOST, ssh://HOST, or local: (the default).
    more
        Other hosts.
    timeout
        Seconds (or 5m) in which each host has to have answered. That it has not is a problem.

    Examples
    --------
    virtstore doctor
    virtstore doctor a b --json
    """
    places = [Location(parse_host(text)) for text in (host, *more)]

    def look(host: Host, at: Location, progress: ProgressCallback) -> list[Finding]:
        return host.doctor(progress=progress)

    with closing(answers(places, look, options, timeout=seconds_of(timeout))) as outcomes:
        told = zip(places, outcomes, strict=True)
        found = in_order([each for at, outcome in told for each in _findings(at, outcome)])
    print_json(found) if options.json else print(_text(found, all_of_them=options.verbose))
    return int(any(each.is_wrong for each in found))


def _findings(location: Location, outcome: list[Finding] | Error) -> list[Finding]:
    """A host's findings; that it cannot be reached is one."""
    if not isinstance(outcome, Error):
        return outcome
    remedy = _NOT_HERE if location.address.host is None else _UNREACHABLE
    return [Finding(location.address.name, "problem", _what(outcome), remedy)]


_UNREACHABLE: Final = (
    "see that ssh to that host works without a question, and that virtstore is installed there;"
    " 'virtstore doctor --verbose HOST:' shows what is started"
)
_NOT_HERE: Final = "'virtstore doctor --verbose' shows what is started"


def _what(error: Error) -> str:
    """What went wrong, without the host, which is said of each finding."""
    return f"{error.path}: {error.message}" if error.path else error.message


def _text(found: Sequence[Finding], *, all_of_them: bool) -> str:
    """A line for each finding, its remedy indented below; what is in order as a number."""
    screen = screen_of(sys.stdout)
    lines: list[str] = []
    for each in found:
        if each.severity == "ok" and not all_of_them:
            continue
        head = f"{each.host}: {each.severity}: "
        first, *rest = each.what.split("\n")
        style: Style = "error" if each.severity == "problem" else "warning"
        shown = "plain" if not each.is_wrong else style
        lines.append(screen.line(first, head=head, head_style=shown, indent=2))
        lines += [screen.line(f"    {line}", indent=4) for line in rest]
        lines += [screen.line(f"    {line}", indent=4) for line in _remedy(each)]
    fine = sum(each.severity == "ok" for each in found)
    if fine and not all_of_them:
        lines.append(f"{fine} other things are in order (--verbose shows them)")
    return "\n".join(lines)


def _remedy(found: Finding) -> list[str]:
    return [line for line in (found.remedy or "").split("\n") if line]


_COLUMNS: Final = (
    Column("PID", "number"),
    Column("USER"),
    Column("FROM"),
    Column("COMMAND"),
    Column("SINCE (UTC)"),
    Column("STAGE"),
    Column("DONE"),
    Column("PATH", "path"),
)


def jobs(
    host: str = "local:", /, *more: str, timeout: Timeout = None, options: Common = _DEFAULTS
) -> int:
    """Show what is running on a host now, by whom, and how far it is.

    It tells of what agents of the same user work on, for half a second at least, as far as this
    session may see it. Up to 50 hosts are asked at the same time.

    Parameters
    ----------
    host
        HOST, ssh://HOST, or local: (the default).
    more
        Other hosts.
    timeout
        Seconds (or 5m) in which each host has to have answered.

    Examples
    --------
    virtstore jobs a
    virtstore jobs a b --json
    """
    places = [Location(parse_host(text)) for text in (host, *more)]
    idle: set[Location] = set()

    def look(host: Host, at: Location, progress: ProgressCallback) -> Sequence[Job]:
        found = host.jobs()
        if not found:
            idle.add(at)
        return found

    status = on_each_host(
        places,
        look,
        _jobs_text,
        options,
        timeout=seconds_of(timeout),
        flat=True,
        apart=True,
    )
    for at in places:
        if at in idle:
            print_notice(at.address.name, "nothing is running", options)
    return status


def _jobs_text(found: Sequence[Job]) -> str | None:
    rows = [list(map(Cell, _row(job))) for job in found]
    return "\n".join(table(_COLUMNS, rows, screen_of(sys.stdout))) if rows else None


def _row(job: Job) -> tuple[str, ...]:
    far = "-"
    if job.total:
        sizes = f"{format_size(job.done)} of {format_size(job.total)}"
        far = f"{100 * job.done // job.total} %, {sizes}"
    began = f"{job.began:%Y-%m-%d %H:%M}"
    path = spelled(job.host, job.path) if job.path else "-"
    return str(job.pid), job.user, job.from_ or "-", job.verb, began, job.stage, far, path
