"""Backups of images, each as it is at one moment, into a directory of any host.

All of it is done by what hosts do anyway: `info`, `list`, `copy`, `verify`. What there is to decide
is decided in `backups`, from what the hosts say.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple, Unpack

import msgspec

from virtstore.backups.names import backup_name, parse
from virtstore.backups.options import BackupKeywords, BackupOptions
from virtstore.backups.retention import Keep, decide
from virtstore.backups.series import Backup, BackupSeries, found_in
from virtstore.backups.sources import chosen, series_names
from virtstore.client.api import Copied, Host, Image
from virtstore.client.one_moment import Moments, is_about
from virtstore.client.pruning import Work, carry_out
from virtstore.copy_options import CopyKeywords
from virtstore.errors import Denied, Error, Exists, InUse, NotFound, Unsupported
from virtstore.location import canonical, within
from virtstore.model import BackedUp, Failed
from virtstore.progress import Progress, ProgressCallback

#: How often another name is tried where the one of a second is taken.
_TRIES: Final = 10


def backup(
    sources: Sequence[Image],
    directory: Image,
    *,
    keep: Keep | None = None,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[BackupKeywords],
) -> list[BackedUp]:
    """Back up images, each as it is at one moment, to archives in a `directory` that is there. What
    each of the `options` means is said in `BackupKeywords`. `keep`: once there is a new backup of
    an image, remove the older ones that these rules do not keep. One that fails does not stop the
    others: why it failed is the `error` of its result. Raises what is wrong with the directory."""
    run = Run(directory, BackupOptions(**options), keep, dry_run=dry_run)
    run.begin()
    planned = [each for source in sources for each in run.plan(source)]
    return [run.make(each, progress) for each in planned]


class Planned(NamedTuple):
    """An image that is to be backed up, in the `series` of that name, or why it cannot be."""

    source: Image
    series: str = ""
    error: Error | None = None


class Run:
    """One run of backups into a directory. `make` may be called from several threads."""

    def __init__(
        self,
        directory: Image,
        options: BackupOptions,
        keep: Keep | None = None,
        *,
        dry_run: bool = False,
    ) -> None:
        self._directory = replace(directory, path=canonical(directory.path))
        self._options = options
        self._keep = keep
        self._dry_run = dry_run
        self._moments = Moments(options)
        self._there: dict[str, BackupSeries] = {}
        self._planned: set[Image] = set()
        self._taken: set[str] = set()

    def begin(self) -> None:
        """See what is in the directory. Raises `NotFound`, `Unsupported` for what is no directory,
        and `Denied`, also where older backups are to be removed and may not be."""
        host, path = self._directory.host, self._directory.path
        try:
            entries = host.list(path, long=True)
        except NotFound as error:
            error.message += "; backups go into a directory that is there"
            raise
        if any(canonical(entry.path) == path for entry in entries):
            raise Unsupported(
                "it is no directory, and backups go into one", host=host.name, path=path
            )
        if self._keep:
            _require_write(host, path)
        there = found_in(path, host.name, entries, datetime.now(UTC))
        self._there = {series.name: series for series in there.series}

    def plan(self, source: Image) -> list[Planned]:
        """What is to be backed up of a source: what no other has named, each in a series of its
        own."""
        source = replace(source, path=canonical(source.path))
        try:
            images = self._images_of(source)
        except Error as error:
            return [Planned(source, error=error)]
        new = [image for image in images if image not in self._planned]
        self._planned.update(new)
        return [self._named(image) for image in new]

    def _images_of(self, source: Image) -> list[Image]:
        """The source itself, or what is to be backed up of a directory or volume group. Raises
        `NotFound`, also where that is nothing."""
        host, wish = source.host, self._options
        if any(canonical(entry.path) == source.path for entry in host.list(source.path)):
            return [source]
        listed = host.list(source.path, long=True)
        if found := chosen(listed, wish.include, wish.exclude):
            return [host.image(path) for path in found]
        why = "--include and --exclude leave none of them" if chosen(listed) else "there is none"
        raise NotFound(f"no image of it is backed up: {why}", host=host.name, path=source.path)

    def _named(self, image: Image) -> Planned:
        for series in series_names(image.path, _word_for(image.host)):
            if series not in self._taken:
                self._taken.add(series)
                return Planned(image, series)
        error = Exists(
            "other images have all names that its backups could have; back it up into another"
            " directory",
            host=image.host.name,
            path=image.path,
        )
        return Planned(image, error=error)

    def make(self, planned: Planned, progress: ProgressCallback | None = None) -> BackedUp:
        """Back up one image. Why that failed is in the result."""
        making = _Making(planned.source)
        try:
            self._make(planned, making, _telling(progress, planned.source))
        except Error as error:
            making.error = error
        return making.result()

    def _make(self, planned: Planned, making: _Making, progress: ProgressCallback | None) -> None:
        def copy(options: CopyKeywords) -> Copied:
            return self._copy(planned, making, options, progress)

        if planned.error:
            raise planned.error
        self._remove_leftovers(planned.series)
        making.copied = self._moments.copy(planned.source, copy)
        if self._options.verify and not self._dry_run:
            making.copied.verify(progress=progress)
        if self._keep:
            making.pruned = self._prune(planned.series, making.copied, self._keep)

    def _copy(
        self,
        planned: Planned,
        making: _Making,
        options: CopyKeywords,
        progress: ProgressCallback | None,
    ) -> Copied:
        """The copy, under the name of this second; where another run has that, of a later one."""
        for left in reversed(range(_TRIES)):
            target = making.target = self._free_target(planned.series)
            try:
                return planned.source.copy(
                    target, dry_run=self._dry_run, progress=progress, **options
                )
            except (Exists, InUse) as error:
                if not left or not is_about(error, target):
                    raise
                _wait_for_the_next_second()
        raise AssertionError("the last try returns or raises")

    def _remove_leftovers(self, series: str) -> None:
        """Remove what interrupted backups of an image left, for which the room may be needed. A
        next one has another name, so nothing goes on with them. What another run is writing its
        host leaves alone; what may not be removed stays, too."""
        if self._dry_run:
            return
        for left in self._existing(series):
            if not left.whole:
                with suppress(Error):
                    self._directory.host.clean(left.path)

    def _prune(self, series: str, copied: Copied, keep: Keep) -> tuple[str, ...]:
        """Remove what the rules do not keep of an image of which there is a new backup. Returns
        the paths of what is gone, or would be."""
        name = parse(copied.path)
        assert name
        new = Backup(copied.path, name.made, copied.size, 0, whole=True)
        now = datetime.now(UTC)
        decisions = decide((new, *self._existing(series)), keep, now)
        if self._dry_run:  # the new one, which is to be there, is not
            return tuple(each.backup.path for each in decisions if not each.reasons)
        done = carry_out(_removing_from(self._directory.host, now), decisions)
        return tuple(each.path for each in done if each.removed)

    def _existing(self, series: str) -> tuple[Backup, ...]:
        return self._there[series].backups if series in self._there else ()

    def _free_target(self, series: str) -> Image:
        there = {existing.made for existing in self._existing(series)}
        while (name := backup_name(series, datetime.now(UTC))).made in there:
            _wait_for_the_next_second()
        return self._directory.host.image(f"{self._directory.path.rstrip('/')}/{name}")


class _Making:
    """A backup under way: what is known of it for its result."""

    def __init__(self, source: Image) -> None:
        self._source = source
        self._began = time.monotonic()
        self.target: Image | None = None
        self.copied: Copied | None = None
        self.pruned: tuple[str, ...] = ()
        self.error: Error | None = None

    def result(self) -> BackedUp:
        copied, error = self.copied, self.error
        return BackedUp(
            str(self._source),
            str(self.target) if self.target else None,
            copied.size if copied else None,
            copied.transferred if copied else 0,
            seconds=round(time.monotonic() - self._began, 3),
            error=Failed(error.code, error.message, error.host, error.path) if error else None,
            pruned=self.pruned,
            warnings=copied.warnings if copied else (),
        )


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


def _removing_from(host: Host, now: datetime) -> Work:
    return Work(
        look=lambda path: host.list(path, long=True),
        remove=lambda path: host.image(path).delete(),
        told=lambda done, total: None,
        now=now,
        dry_run=False,
    )


def _word_for(host: Host) -> str:
    """What a host is called in the name of a series."""
    return host.address.host or socket.gethostname()


def _telling(progress: ProgressCallback | None, source: Image) -> ProgressCallback | None:
    """The callback for what each step of a backup tells, in the name of the whole."""
    if progress is None:
        return None

    def told(event: Progress) -> None:
        progress(msgspec.structs.replace(event, operation="backup", source=str(source)))

    return told


def _wait_for_the_next_second() -> None:
    time.sleep(1 - time.time() % 1)
