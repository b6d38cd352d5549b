"""The commands that look after a directory of backups: backups and prune."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.backups import job_file
from virtstore.backups.job_file import Job
from virtstore.backups.retention import Keep
from virtstore.backups.series import Backups
from virtstore.cli import by_job
from virtstore.cli.backups_text import backups_text, late_lines, pruned_text
from virtstore.cli.keep_options import NO_RULES, KeepOptions
from virtstore.cli.meter import meter
from virtstore.cli.options import Changing, Common, located, open_at
from virtstore.cli.prometheus import write_metrics
from virtstore.cli.render import print_json, print_notice
from virtstore.cli.terminal import screen_of
from virtstore.errors import UsageError
from virtstore.location import Location
from virtstore.units import parse_age

_DEFAULTS: Final = Common()
_CHANGING: Final = Changing()


def backups(
    directory: str | None = None,
    /,
    *,
    max_age: str | None = None,
    job: str | None = None,
    prometheus: str | None = None,
    exact: Annotated[bool, Parameter(name="--bytes", negative=())] = False,
    options: Common = _DEFAULTS,
) -> int:
    """Show which backups there are, by image.

    A backup is a file called NAME.YYYY-MM-DDTHHMMSSZ.img.zst, of the image NAME as it was at that
    moment (UTC). What was cut, or is still being made, is shown and not counted; so is what is
    dated in the future. Other files are told as foreign. Whether contents are undamaged tells
    'virtstore verify'.

    Parameters
    ----------
    directory
        The directory of the backups.
    max_age
        The morning's check: exit 1, and name on standard error each image whose newest backup is
        older (26h, 8d). A directory without any backup fails it as well.
    job
        Look at the target of that job with its max_age, which virtstore-backup(1) tells more of.
    prometheus
        Write it to this file, too, for node_exporter's textfile collector (NAME.prom). It is
        replaced in one step.
    exact
        Exact numbers of bytes instead of units.

    Examples
    --------
    virtstore backups b:/mnt/backups
    virtstore backups b:/mnt/backups --max-age 26h --prometheus /var/lib/node_exporter/b.prom
    virtstore backups --job nightly
    """
    if max_age is not None:
        parse_age(max_age)  # before a host is asked
    if job is not None:
        at, max_age = _looked_at(job, directory, max_age)
    else:
        at = located(_given(directory, "backups"))
    with open_at(at, options) as host, meter(options) as progress:
        found = host.backups(at.path or "", max_age=max_age, progress=progress)
    now = datetime.now(UTC)
    if prometheus is not None:
        write_metrics(prometheus, found, now, checked_age=max_age is not None)
    if options.json:
        print_json(found.series)
    elif found.series or found.foreign:
        print(backups_text(found, now, exact=exact, screen=screen_of(sys.stdout)))
    elif max_age is None:
        print_notice(str(at), "no backups there", options)
    return _report_late(found, now) if max_age is not None else 0


def _looked_at(word: str, directory: str | None, max_age: str | None) -> tuple[Location, str]:
    """What the job says: where its backups are, and what is late."""
    _refuse_beside(word, directory, max_age)
    job = job_file.read(word)
    if job.said.max_age is None:
        raise UsageError(
            f"the job in {job.file} has no max_age, so nothing is late; write one (such as max_age"
            f' = "26h"), or look without it: virtstore backups {shlex.quote(job.said.target)}'
        )
    return located(job.said.target), job.said.max_age


def _refuse_beside(word: str, *typed: object) -> None:
    if any(each is not None for each in typed):
        raise UsageError(f"--job {word}: its file says where and by which rule; leave the rest out")


def _given(directory: str | None, verb: str) -> str:
    if directory is None:
        raise UsageError(
            f"DIRECTORY is missing: write virtstore {verb} DIRECTORY, or virtstore {verb} --job"
            f" NAME ('virtstore {verb} --help' tells more)"
        )
    return directory


def _report_late(found: Backups, now: datetime) -> int:
    """Name those that are late. Returns the exit status."""
    lines = late_lines(found, now)
    sys.stdout.flush()  # what both lead to is read in that order
    for line in lines:
        told = screen_of(sys.stderr).line(line, head="virtstore: ", head_style="error", indent=2)
        print(told, file=sys.stderr)
    return int(bool(lines))


def prune(
    directory: str | None = None,
    /,
    *image: str,
    keep: KeepOptions = NO_RULES,
    job: str | None = None,
    exact: Annotated[bool, Parameter(name="--bytes", negative=())] = False,
    options: Changing = _CHANGING,
) -> None:
    """Remove old backups, and say which rule keeps each other one.

    Each rule looks at all backups of an image. Hours, days, weeks, months and years are those of
    UTC, and only those count in which there is a backup: nothing is removed because time goes by
    without new ones. As long as a rule has found fewer than N of them, the oldest backup stays as
    well. So does whatever is not whole, dated in the future, in use, or foreign; and the newest
    whole backup of an image always.

    A key that may only add backups cannot prune: run it on the backup host.

    Parameters
    ----------
    directory
        The directory of the backups.
    image
        Only backups of these images, by the names that 'virtstore backups' has for them.
    job
        Prune the target of that job by its [keep], which virtstore-backup(1) tells more of.
    exact
        Exact numbers of bytes instead of units.

    Examples
    --------
    virtstore prune b:/mnt/backups --keep-daily 7 --keep-weekly 4 --dry-run
    virtstore prune b:/mnt/backups web db --keep-last 3
    virtstore prune --job nightly
    """
    if job is not None:
        _refuse_beside(job, directory, keep.rules())
        found = job_file.read(job)
        with by_job.turn_of(found):
            _prune(located(found.said.target), (), _rules_of(found), options, exact=exact)
        return
    at = located(_given(directory, "prune"))
    rules = keep.rules()
    if rules is None:
        raise UsageError("say what is to stay, such as --keep-daily 7 --keep-weekly 4")
    _prune(at, image, rules, options, exact=exact)


def _rules_of(job: Job) -> Keep:
    rules = job.said.keep.rules
    if rules is None:
        raise UsageError(
            f"the job in {job.file} does not say what is to stay; write [keep] with a line such as:"
            " daily = 7"
        )
    return rules


def _prune(
    at: Location, images: Sequence[str], rules: Keep, options: Changing, *, exact: bool
) -> None:
    with open_at(at, options) as host, meter(options) as progress:
        done = host.prune(
            at.path or "", rules, images=images, dry_run=options.dry_run, progress=progress
        )
    if options.json:
        print_json(done)
    elif not done.series:
        print_notice(str(at), "no backups there", options)
    elif not options.quiet:
        print(pruned_text(done, exact=exact, screen=screen_of(sys.stdout)))
