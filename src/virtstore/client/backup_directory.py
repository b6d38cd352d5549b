"""A directory of backups, as a run of them finds it and leaves it: whose series are in it, what a
new backup is called and based on, and which older ones go."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace

from virtstore.backups.names import backup_name, parse
from virtstore.backups.retention import Keep, decide
from virtstore.backups.series import Backup, Backups
from virtstore.backups.sources import series_names
from virtstore.client.api import Copied, Host, Image
from virtstore.client.listing import found_backups
from virtstore.client.pruning import Work, carry_out
from virtstore.errors import Denied, Error, Exists, NotFound, Unsupported
from virtstore.location import within
from virtstore.protocol import ORIGINS


class BackupDirectory:
    """What was in a directory when it was looked at."""

    def __init__(
        self,
        directory: Image,
        there: Backups,
        sources: dict[str, str],
        *,
        takes_a_base: bool,
    ) -> None:
        self._host, self._path = directory.host, directory.path
        self._takes_a_base = takes_a_base
        self._series = {series.name: series.backups for series in there.series}
        self._made_of = sources
        self._taken: set[str] = set()

    def name_for(self, image: Image) -> str:
        """What the backups of an image are called here: as no other image of this run is, and none
        that there are backups of. Raises `Exists` where no name is left."""
        for name in series_names(image.path, _word_for(image.host)):
            if name not in self._taken and not self._is_of_another(name, image):
                self._taken.add(name)
                return name
        raise Exists(
            "other images have all names that its backups could have; back it up into another"
            " directory",
            host=image.host.name,
            path=image.path,
        )

    def _is_of_another(self, name: str, image: Image) -> bool:
        """Whether the newest backup of that name says that it is of another image. One that was
        moved on its host is the same one: it is where it was no more."""
        newest = self._newest(name)
        made_of = self._made_of.get(newest.path) if newest else None
        if made_of is None:
            return False
        host, _, path = made_of.partition(":")
        here = host == (image.host._sessions.agent()[0] or host)
        if path == image.path or not here:
            return not here
        try:
            image.host.list(path)
        except NotFound:
            return False
        except Error:  # such as what it may not see any more
            return True
        return True

    def base_for(self, name: str) -> Image | None:
        """The newest whole backup of that name."""
        newest = self._newest(name) if self._takes_a_base else None
        return self._host.image(newest.path) if newest else None

    def free_target(self, name: str) -> Image:
        """Where a backup goes that is made now. Waits for a second that no other one is of."""
        there = {existing.made for existing in self._existing(name)}
        while (new := backup_name(name, datetime.now(UTC))).made in there:
            wait_for_the_next_second()
        return self._host.image(f"{self._path.rstrip('/')}/{new}")

    def remove_leftovers(self, name: str) -> None:
        """Remove what interrupted backups of that name left, for which the room may be needed. A
        next one has another name, so nothing goes on with them. What another run is writing its
        host leaves alone; what may not be removed stays, too."""
        for left in self._existing(name):
            if not left.whole:
                with suppress(Error):
                    self._host.clean(left.path)

    def prune(self, name: str, copied: Copied, keep: Keep, *, dry_run: bool) -> tuple[str, ...]:
        """Remove what the rules do not keep, now that there is a new backup. Returns the paths of
        what is gone, or would be."""
        new = parse(copied.path)
        assert new
        backups = (Backup(copied.path, new.made, copied.size, 0, whole=True), *self._existing(name))
        now = datetime.now(UTC)
        # One that some clock dated a little ahead counts as newer than this one, and is older.
        decisions = [
            replace(each, reasons=each.reasons or ("last",)) if each.backup == backups[0] else each
            for each in decide(backups, keep, now)
        ]
        if dry_run:  # the new one, which is to be there, is not
            return tuple(each.backup.path for each in decisions if not each.reasons)
        done = carry_out(self._removing(now), decisions)
        return tuple(each.path for each in done if each.removed)

    def _removing(self, now: datetime) -> Work:
        return Work(
            look=lambda path: self._host.list(path, long=True),
            remove=lambda path: self._host.image(path).delete(),
            told=lambda done, total: None,
            now=now,
            dry_run=False,
        )

    def _existing(self, name: str) -> tuple[Backup, ...]:
        return self._series.get(name, ())

    def _newest(self, name: str) -> Backup | None:
        return next((each for each in self._existing(name) if each.whole), None)


def seen(directory: Image, *, prunes: bool) -> BackupDirectory:
    """What is in a directory. Raises `NotFound`, `Unsupported` for what is no directory, and
    `Denied`, also where older backups are to be removed (`prunes`) and may not be."""
    host, path = directory.host, directory.path
    told = "it is no directory, and backups go into one"
    no_directory = Unsupported(told, host=host.name, path=path)
    sources: dict[str, str] = {}
    try:
        there = found_backups(host._sessions, path, no_directory=no_directory, sources=sources)
    except NotFound as error:
        error.message += "; backups go into a directory that is there"
        raise
    if prunes:
        _require_write(host, path)
    return BackupDirectory(
        directory, there, sources, takes_a_base=ORIGINS in host._sessions.agent()[1]
    )


def wait_for_the_next_second() -> None:
    time.sleep(1 - time.time() % 1)


def _require_write(host: Host, path: str) -> None:
    """Raises `Denied` where a session may not remove what is in a directory."""
    around = [root for root in host.storage_info().roots if within(path, root.path)]
    if around and max(around, key=lambda root: len(root.path)).access != "write":
        raise Denied(
            'this connection may not remove backups, which needs "write": leave --keep-… out, and'
            " let a timer on that host run 'virtstore prune'",
            host=host.name,
            path=path,
        )


def _word_for(host: Host) -> str:
    """What a host is called in the name of a series."""
    return host.address.host or socket.gethostname()
