"""The command that backs up images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.backups.options import BackupKeywords, BackupOptions
from virtstore.cli.options import FLAGS, NICE, Changing, Jobs, image_at, located
from virtstore.cli.render import lines_text, print_error
from virtstore.cli.several import Sessions, on_hosts, refuse_jobs, sessions
from virtstore.client.api import Host
from virtstore.client.backing_up import Planned, Run
from virtstore.errors import Error, from_code
from virtstore.location import Location
from virtstore.model import BackedUp, Failed
from virtstore.progress import ProgressCallback
from virtstore.text import printable
from virtstore.units import format_size

_DEFAULTS = Changing()
_NONE: Final[BackupKeywords] = {}


def backup(
    source: str,
    target_dir: Annotated[str, Parameter(name="TARGET-DIR")],
    /,
    *more: str,
    how: Annotated[BackupKeywords, FLAGS] = _NONE,
    jobs: Jobs = None,
    options: Changing = _DEFAULTS,
) -> int:
    """Back up images to archives, each as it is at one moment.

    A backup is called NAME.YYYY-MM-DDTHHMMSSZ.img.zst, in UTC, where NAME is the image's name
    without .img, .qcow2 or the like. It is an archive like any other, which 'virtstore copy' or
    zstd alone makes an image again.

    An image that nobody uses is copied as it is. Otherwise its place makes a snapshot (LVM, XFS,
    Btrfs), or the libvirt domain that runs on it shows the disk of that moment; where neither can
    be, that image is refused. One that fails does not stop the others: the exit status is the
    highest of all.

    Parameters
    ----------
    source
        An image.
    target_dir
        The directory for the backups, which is there.
    more
        With several sources the last is the directory.
    jobs
        Back up so many at a time (default: 1); --bwlimit is for each of them.

    Examples
    --------
    virtstore backup a:/dev/vg0/web b:/srv/backups
    virtstore backup a:/dev/vg0/web a:/var/lib/libvirt/images/db.qcow2 b:/srv/backups -j 2 --verify
    """
    refuse_jobs(jobs)
    *sources, directory = [located(text) for text in (source, target_dir, *more)]
    wish = BackupOptions(**how)
    if wish.nice:
        os.nice(NICE)  # and so is ssh, which encrypts
    with sessions(options) as hosts:
        hosts.log_in((directory, *sources))
        run = Run(image_at(hosts(directory), directory), wish, dry_run=options.dry_run)
        run.begin()
        return _all_made(run, _planned(run, hosts, sources), hosts, jobs, options)


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
) -> int:
    """Make all backups and print what became of each. Returns the exit status."""
    made: list[BackedUp] = []

    def make(_: Sessions, at: Location, progress: ProgressCallback) -> list[BackedUp]:
        made.append(run.make(planned[at], progress))
        return made[-1:]

    def text(done: list[BackedUp]) -> str | None:
        [one] = done
        if one.error:
            print_error(_error_of(one.error), as_json=False)
        return None if one.error or options.quiet else _text(one, dry_run=options.dry_run)

    on_hosts(hosts, list(planned), make, text, options, flat=True, jobs=jobs)
    if len(made) > 1 and not (options.json or options.quiet):
        print(_summary(made, dry_run=options.dry_run))
    return max((_error_of(each.error).exit_status for each in made if each.error), default=0)


def _error_of(failed: Failed) -> Error:
    return from_code(failed.code, failed.message, host=failed.host, path=failed.path)


def _text(done: BackedUp, *, dry_run: bool) -> str:
    size = format_size(done.size or 0)
    target = printable(done.target or "")
    based = f", based on {printable(done.base.rpartition('/')[2])}" if done.base else ""
    if dry_run:
        line = f"would back up {size} from {printable(done.source)} to {target}{based}"
    else:
        moved = f", {format_size(done.transferred)} moved" if done.transferred else ""
        line = f"{target}  {size} in {done.seconds:.1f} s{moved}{based}"
    return lines_text([line], done.warnings)


def _summary(made: Sequence[BackedUp], *, dry_run: bool) -> str:
    failed = [printable(each.source) for each in made if each.error]
    moved = format_size(sum(each.transferred for each in made))
    would = "would be " if dry_run else ""
    line = f"{len(made) - len(failed)} of {len(made)} {would}backed up, {moved} moved"
    return f"{line}; not {', '.join(failed)}" if failed else line
