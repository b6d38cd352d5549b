"""Takes away what `installing` put on this host, and nothing else."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from virtstore.bare_host.installing import retire, running_from
from virtstore.bare_host.places import (
    COMMANDS,
    Places,
    Refused,
    digests,
    exclusive,
    is_linked,
    left_over,
    sync_directory,
)


def owned(places: Places) -> list[str]:
    """What there is to remove, commands first: so nothing is started meanwhile."""
    found = [places.command(name) for name in COMMANDS if is_linked(places, name)]
    if os.path.lexists(places.current):
        found.append(places.current)
    found += [places.tree(digest) for digest in digests(places)]
    return found + left_over(places.library) + left_over(places.commands)


def uninstall(places: Places) -> list[str]:
    """Remove the commands and every bundle. Returns what was removed. Raises `Refused` where one
    of them is at work."""
    if not os.path.isdir(places.library):
        return []
    with exclusive(places):
        refuse_running(places)
        found = owned(places)
        for path in found:
            _remove(places, path)
        sync_directory(places.library)
    with suppress(OSError):  # something else is in it
        os.rmdir(places.library)
    return found


def refuse_running(places: Places) -> None:
    """Raises `Refused` where an agent or a command of a bundle runs."""
    running = [n for digest in digests(places) for n in running_from(places.tree(digest))]
    if running:
        shown = ", ".join(map(str, running[:5]))
        raise Refused(
            "in-use",
            f"virtstore is at work there (process {shown}); try again when it has ended",
            places.library,
        )


def _remove(places: Places, path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.basename(path) in digests(places):
        retire(path)
    else:
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
