"""The command that restores backups."""

from __future__ import annotations

import os
from typing import Annotated, Final

from virtstore.backups.options import RestoreKeywords
from virtstore.cli.meter import meter
from virtstore.cli.options import FLAGS, NICE, Changing, image_at, located
from virtstore.cli.render import copy_text, lines_text, print_json
from virtstore.cli.several import sessions
from virtstore.client.restoring import restore as restore_backup

_DEFAULTS = Changing()
_NONE: Final[RestoreKeywords] = {}


def restore(
    backup: str,
    target: str,
    /,
    *,
    at: str | None = None,
    how: Annotated[RestoreKeywords, FLAGS] = _NONE,
    options: Changing = _DEFAULTS,
) -> None:
    """Make an image of a backup, a new one or in place of one.

    It says which backup it took. The size of an image that is replaced stays, if that is as large
    as the backup's.

    Parameters
    ----------
    backup
        An archive; or DIR/NAME, such as b:/srv/backups/web, for the newest whole backup of that
        image.
    target
        The image; or a directory or volume group, in which the image is called NAME.img or NAME.
    at
        Of DIR/NAME: the newest backup that was made by then. A day (2026-11-28) is meant to its
        end, and so is a minute (2026-11-28T02:00), in this machine's time zone, unless another is
        said (2026-11-28T02:00Z, 2026-11-28T02:00+01:00).

    Examples
    --------
    virtstore restore b:/srv/backups/web a:/dev/vg0/web --overwrite
    virtstore restore b:/srv/backups/web a:/srv/images/web-then.img --at 2026-11-28T02:00
    virtstore restore b:/srv/backups/web.2026-11-28T020000Z.img.zst a:/srv/images/
    """
    source, to = located(backup), located(target)
    if how.get("nice"):
        os.nice(NICE)  # and so is ssh, which encrypts
    with sessions(options) as hosts, meter(options) as progress:
        hosts.log_in((source, to))
        done = restore_backup(
            image_at(hosts(source), source),
            image_at(hosts(to), to),
            at=at,
            dry_run=options.dry_run,
            progress=progress,
            **how,
        ).result
    if options.json:
        print_json(done)
    elif not options.quiet:
        if options.dry_run:
            print(lines_text([copy_text(done, plan="")], done.warnings))
        else:
            print(copy_text(done, origin=True))
