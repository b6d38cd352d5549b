"""Backups of images, each as it is at one moment, into a directory of any host.

All of it is done by what hosts do anyway: `info`, `list`, `copy`, `verify`. What there is to decide
is decided in `backups`, from what the hosts say.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Unpack

import msgspec

from virtstore.backups.options import BackupKeywords, BackupOptions
from virtstore.backups.retention import Keep
from virtstore.backups.sources import chosen, not_readable
from virtstore.client.api import Copied, Image
from virtstore.client.backup_directory import seen, wait_for_the_next_second
from virtstore.client.one_moment import Moments, is_about
from virtstore.copy_options import CopyKeywords
from virtstore.errors import Corrupt, Error, Exists, InUse, NotFound, Unsupported
from virtstore.location import canonical
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
        """Raises what is wrong with the directory."""
        self._options = options
        self._keep = keep
        self._dry_run = dry_run
        self._moments = Moments(options)
        directory = replace(directory, path=canonical(directory.path))
        self._directory = seen(directory, prunes=keep is not None)
        self._planned: set[Image] = set()

    @property
    def keeps_snapshots(self) -> bool:
        """Whether each backup leaves its snapshot behind, and how much is read depends on that."""
        return self._options.keep_snapshot

    def plan(self, source: Image) -> list[Planned]:
        """What is to be backed up of a source: what no other has named, each in a series of its
        own."""
        source = replace(source, path=canonical(source.path))
        try:
            images, others = self._images_of(source)
        except Error as error:
            return [Planned(source, error=error)]
        new = [image for image in images if image not in self._planned]
        self._planned.update(new)
        return [*map(self._named, new), *map(_not_readable, others)]

    def _images_of(self, source: Image) -> tuple[list[Image], list[Image]]:
        """The source itself, or what is to be backed up of a directory or volume group, and what
        cannot be read there. Raises `NotFound`, also where that is nothing."""
        host, wish = source.host, self._options
        if any(canonical(entry.path) == source.path for entry in host.list(source.path)):
            return [source], []
        listed = host.list(source.path, long=True)
        found = chosen(listed, wish.include, wish.exclude)
        others = not_readable(listed, wish.include, wish.exclude)
        if found or others:
            return [*map(host.image, found)], [*map(host.image, others)]
        why = "--include and --exclude leave none of them" if chosen(listed) else "there is none"
        raise NotFound(f"no image of it is backed up: {why}", host=host.name, path=source.path)

    def _named(self, image: Image) -> Planned:
        try:
            return Planned(image, self._directory.name_for(image))
        except Error as error:
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
        if not self._dry_run:
            self._directory.remove_leftovers(planned.series)
        making.copied = self._moments.copy(planned.source, copy)
        if self._options.verify and not self._dry_run:
            _verify(making.copied, progress)
        if self._keep:
            making.pruned = self._directory.prune(
                planned.series, making.copied, self._keep, dry_run=self._dry_run
            )

    def _copy(
        self,
        planned: Planned,
        making: _Making,
        options: CopyKeywords,
        progress: ProgressCallback | None,
    ) -> Copied:
        """The copy, under the name of this second; where another run has that, of a later one. It
        is based on the newest backup of the image that there was."""
        base = self._directory.base_for(planned.series)
        for left in reversed(range(_TRIES)):
            target = making.target = self._directory.free_target(planned.series)
            making.base, options["base"] = base, base.path if base else None
            try:
                return planned.source.copy(
                    target, dry_run=self._dry_run, progress=progress, **options
                )
            except Error as error:
                if base and is_about(error, base):  # somebody has removed it, or is about to
                    base = None
                    continue
                if not left or not isinstance(error, Exists | InUse) or not is_about(error, target):
                    raise
                wait_for_the_next_second()
        raise AssertionError("the last try returns or raises")


def _not_readable(image: Image) -> Planned:
    """An image may be behind a link, or have a name that is none here: who is not told would take
    it for backed up."""
    why = (
        "it is a link, a pipe, a socket, or a file whose name is not UTF-8, of which there is no"
        " backup; name what a link leads to, or leave it out with --exclude"
    )
    error = Unsupported(why, host=image.host.name, path=image.path)
    return Planned(image, error=error)


class _Making:
    """A backup under way: what is known of it for its result."""

    def __init__(self, source: Image) -> None:
        self._source = source
        self._began = time.monotonic()
        self.target: Image | None = None
        self.base: Image | None = None
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
            base=str(self.base) if copied and self.base else None,
            seconds=round(time.monotonic() - self._began, 3),
            error=Failed(error.code, error.message, error.host, error.path) if error else None,
            pruned=self.pruned,
            warnings=copied.warnings if copied else (),
            read=copied.read if copied else None,
        )


def _verify(made: Image, progress: ProgressCallback | None) -> None:
    """Raises `Corrupt` for a backup that is damaged already. It is removed, so that nothing is
    based on it and no rule keeps it in place of a whole one."""
    try:
        made.verify(progress=progress)
    except Corrupt as error:
        error.message += f"; {_what_became_of(made)}. No other backup of its image was removed"
        raise


def _what_became_of(damaged: Image) -> str:
    try:
        damaged.delete()
    except Error as error:
        return (
            f"it is still called like a backup, as it could not be removed ({error.message}):"
            " remove it with 'virtstore delete', and look after its disk"
        )
    return "it was removed; look after its disk before the next one"


def _telling(progress: ProgressCallback | None, source: Image) -> ProgressCallback | None:
    """The callback for what each step of a backup tells, in the name of the whole."""
    if progress is None:
        return None

    def told(event: Progress) -> None:
        progress(msgspec.structs.replace(event, operation="backup", source=str(source)))

    return told
