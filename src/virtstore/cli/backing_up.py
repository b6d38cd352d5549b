"""The command that backs up images."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

from cyclopts import Parameter

from virtstore.backups import job_file
from virtstore.backups.hooks import Outcome
from virtstore.backups.job_file import Job
from virtstore.backups.options import BackupKeywords, BackupOptions
from virtstore.backups.retention import Keep
from virtstore.cli import by_job
from virtstore.cli.braces import expanded
from virtstore.cli.keep_options import NO_RULES, KeepOptions
from virtstore.cli.options import FLAGS, NICE, Changing, Jobs, image_at, located
from virtstore.cli.render import json_text, lines_text, print_error
from virtstore.cli.several import Sessions, on_hosts, refuse_jobs, sessions
from virtstore.client.api import Host
from virtstore.client.backing_up import Planned, Run
from virtstore.errors import Error, UsageError, from_code
from virtstore.location import Location
from virtstore.model import BackedUp, Failed
from virtstore.progress import ProgressCallback
from virtstore.text import printable
from virtstore.units import format_size

_DEFAULTS = Changing()
_NONE: Final[BackupKeywords] = {}


class Wanted(NamedTuple):
    """What is to be backed up, and how; `jobs` at a time."""

    sources: Sequence[Location]
    directory: Location
    how: BackupOptions
    jobs: int | None = None
    keep: Keep | None = None


def backup(
    source: str | None = None,
    target_dir: Annotated[str | None, Parameter(name="TARGET-DIR")] = None,
    /,
    *more: str,
    how: Annotated[BackupKeywords, FLAGS] = _NONE,
    keep: KeepOptions = NO_RULES,
    jobs: Jobs = None,
    job: str | None = None,
    options: Changing = _DEFAULTS,
) -> int:
    """Back up images to archives, each as it is at one moment.

    A backup is called NAME.YYYY-MM-DDTHHMMSSZ.img.zst, in UTC, where NAME is the image's name
    without .img, .qcow2 or the like. It is an archive like any other: 'virtstore restore', or
    zstd alone, makes an image of it again.

    An image that nobody uses is copied as it is. Otherwise its place makes a snapshot (LVM, XFS,
    Btrfs), or the libvirt domain that runs on it shows the disk of that moment; where neither can
    be, that image is refused.

    With --keep-… the older backups of an image that no such rule keeps are removed once its new one
    is whole; 'virtstore prune' tells what each rule keeps. What an interrupted backup of the image
    left is removed before it begins, where this connection may.

    One that fails does not stop the others: the exit status is the
    highest of all.

    Parameters
    ----------
    source
        An image, or a directory or volume group with all of its images. Snapshots, partial images
        and archives in there are left out, and so are subdirectories.
    target_dir
        The directory for the backups, which is there.
    more
        With several sources the last is the directory.
    jobs
        Back up so many at a time (default: 1); --bwlimit is for each of them.
    job
        Do what the file NAME.toml in ~/.config/virtstore/backup or /etc/virtstore/backup says, with
        its hooks, instead of what is typed. A word with a slash is the path of such a file.

    Examples
    --------
    virtstore backup a:/dev/vg0/web a:/srv/images/db.qcow2 b:/srv/backups -j 2 --keep-daily 14
    virtstore backup a:/dev/vg0 b:/srv/backups --exclude 'swap*' --verify
    virtstore backup --job nightly
    """
    refuse_jobs(jobs)
    texts = [text for text in (source, target_dir, *more) if text is not None]
    if job is not None:
        if texts or how or jobs or keep.rules():
            raise UsageError(f"--job {job}: its file says all that is done; leave the rest out")
        return _by_job(job_file.read(job), options)
    if len(texts) < 2:
        raise UsageError(
            f"{'TARGET-DIR is' if texts else 'SOURCE and TARGET-DIR are'} missing: write virtstore"
            " backup SOURCE… TARGET-DIR, or virtstore backup --job NAME ('virtstore backup --help'"
            " tells more)"
        )
    *sources, directory = texts
    wanted = Wanted(_located(sources), located(directory), BackupOptions(**how), jobs, keep.rules())
    return _status(_outcome(wanted, options))


def _by_job(job: Job, options: Changing) -> int:
    wanted = _wanted(job)
    if options.dry_run:
        return _status(_outcome(wanted, options))
    return by_job.run(job, lambda: _outcome(wanted, options))


def _status(outcome: Outcome) -> int:
    """The exit status. Raises why what came of it could not be printed."""
    if outcome.untold:
        raise outcome.untold
    return outcome.status


def _wanted(job: Job) -> Wanted:
    """What a job is about. Raises `UsageError` for one that has no sources."""
    said = job.said
    if not said.sources:
        raise UsageError(f'the job in {job.file} has no sources; write: sources = ["HOST:/path"]')
    how = BackupOptions(
        no_snapshot=not said.snapshot,
        live=said.live,
        quiesce=said.quiesce,
        keep_snapshot=said.keep_snapshot,
        verify=said.verify,
        include=said.include,
        exclude=said.exclude,
        bwlimit=said.bwlimit,
        nice=said.nice,
    )
    sources = _located(said.sources)
    return Wanted(sources, located(said.target), how, said.jobs, said.keep.rules)


def _located(sources: Iterable[str]) -> list[Location]:
    return [located(word) for text in sources for word in expanded(text)]


def _outcome(wanted: Wanted, options: Changing) -> Outcome:
    """Make the backups, and print what became of each."""
    if wanted.how.nice:
        os.nice(NICE)  # and so is ssh, which encrypts
    began = time.monotonic()
    directory = wanted.directory
    with sessions(options) as hosts:
        hosts.log_in((directory, *wanted.sources))
        where = image_at(hosts(directory), directory)
        run = Run(where, wanted.how, wanted.keep, dry_run=options.dry_run)
        planned = _planned(run, hosts, wanted.sources)
        made, untold = _all_made(run, planned, hosts, wanted.jobs, options)
    outcome = _told(made, time.monotonic() - began)
    if untold:
        why = f"what became of the backups could not be printed: {untold}"
        return outcome._replace(status=Error.exit_status, message=why, untold=untold)
    return outcome


def _told(made: Sequence[BackedUp], seconds: float) -> Outcome:
    errors = [_error_of(each.error) for each in made if each.error]
    return Outcome(
        max((each.exit_status for each in errors), default=0),
        str(errors[0]) if errors else "",
        len(made) - len(errors),
        len(errors),
        sum(each.transferred for each in made),
        round(seconds),
        json_text(made),
    )


def _planned(run: Run, hosts: Sessions, sources: Sequence[Location]) -> dict[Location, Planned]:
    """What is to be backed up, by where it is. A host that could not be logged in to is the failure
    of what is on it."""
    found: dict[Location, Planned] = {}
    for source in sources:
        try:
            planned = run.plan(image_at(hosts(source), source))
        except Error as error:
            planned = [Planned(image_at(Host(source.address), source), error=error)]
        found |= {Location(each.source.host.address, each.source.path): each for each in planned}
    return found


def _all_made(
    run: Run,
    planned: dict[Location, Planned],
    hosts: Sessions,
    jobs: int | None,
    options: Changing,
) -> tuple[list[BackedUp], OSError | None]:
    """Make all backups and print what became of each. Where that cannot be printed (a full disk,
    nobody who reads it), they are made all the same; why is the second value."""
    made: list[BackedUp] = []
    unsaid: list[OSError] = []

    def make(_: Sessions, at: Location, progress: ProgressCallback) -> list[BackedUp]:
        made.append(run.make(planned[at], progress))
        return made[-1:]

    def say(done: list[BackedUp]) -> None:
        [one] = done
        try:
            if one.error:
                print_error(_error_of(one.error), as_json=False)
            elif not options.quiet:
                line = _text(one, dry_run=options.dry_run, tells_read=run.keeps_snapshots)
                print(line, flush=True)
        except OSError as error:
            unsaid.append(error)

    try:
        on_hosts(hosts, list(planned), make, say, options, flat=True, jobs=jobs)
        if len(made) > 1 and not (options.json or options.quiet or unsaid):
            print(_summary(made, dry_run=options.dry_run))
        sys.stdout.flush()
    except OSError as error:
        unsaid.append(error)
    return made, next(iter(unsaid), None)


def _error_of(failed: Failed) -> Error:
    return from_code(failed.code, failed.message, host=failed.host, path=failed.path)


def _text(done: BackedUp, *, dry_run: bool, tells_read: bool) -> str:
    size = format_size(done.size or 0)
    target = printable(done.target or "")
    based = f", based on {printable(done.base.rpartition('/')[2])}" if done.base else ""
    if dry_run:
        line = f"would back up {size} from {printable(done.source)} to {target}{based}"
    else:
        moved = f", {format_size(done.transferred)} moved" if done.transferred else ""
        read = f", {format_size(done.read or 0)} read" if tells_read else ""
        line = f"{target}  {size} in {done.seconds:.1f} s{read}{moved}{based}"
    if gone := len(done.pruned):
        would = "; would remove" if dry_run else "; removed"
        line += f"{would} {gone} older {'backup' if gone == 1 else 'backups'}"
    return lines_text([line], done.warnings)


def _summary(made: Sequence[BackedUp], *, dry_run: bool) -> str:
    failed = [printable(each.source) for each in made if each.error]
    total = sum(each.transferred for each in made)
    moved = f", {format_size(total)} moved" if total else ""
    would = "would be " if dry_run else ""
    line = f"{len(made) - len(failed)} of {len(made)} {would}backed up{moved}"
    return f"{line}; not {', '.join(failed)}" if failed else line
