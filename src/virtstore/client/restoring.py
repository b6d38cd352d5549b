"""Restoring a backup: its image is copied to where there is none, or over the contents of the one
that is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Unpack

from virtstore.backups.choosing import chosen_of, last_second_of
from virtstore.backups.names import parse, stamp
from virtstore.backups.options import RestoreKeywords, RestoreOptions
from virtstore.backups.series import Backup
from virtstore.client.api import Copied, Image
from virtstore.client.listing import found_backups
from virtstore.errors import Exists, NotFound, UsageError
from virtstore.location import canonical
from virtstore.model import ImageInfo
from virtstore.names import archive_format
from virtstore.progress import ProgressCallback

#: What becomes of an image that is there, for a dry run.
_IN_PLACE: Final = (
    "the image that is there would be overwritten in place, where it differs; a restore that is cut"
    " leaves it partial, and the same command goes on with it"
)
_REPLACED: Final = (
    "the image that is there is smaller than the backup; it would be replaced once the new one is"
    " whole"
)

#: So many images are named where none was, at the most.
_MOST_NAMES: Final = 10


def restore(
    backup: Image,
    target: Image,
    *,
    at: datetime | str | None = None,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[RestoreKeywords],
) -> Copied:
    """Make `target` what a backup has. `backup` is an archive, or `DIR/NAME`: the newest whole one
    of that image, or the newest that was made by the time `at`, which is text as the command line
    takes it, or a moment with its time zone. An image that is there is refused unless it is to be
    `overwrite`-n. Raises `NotFound`, `Exists`."""
    wish = RestoreOptions(**options)
    taken = _taken(backup, last_second_of(at) if isinstance(at, str) else at)
    into = _into(target, taken)
    there = _image_at(into)
    if there and there.state == "complete" and not wish.overwrite:
        raise Exists(
            "there is an image already; --overwrite replaces what is in it",
            host=into.host.name,
            path=into.path,
        )
    how = wish.of_copy
    if there is None or not wish.overwrite:  # a restore that was cut goes on with what it left
        return taken.copy(into, dry_run=dry_run, progress=progress, **how)
    if there.type == "file" and _is_smaller(there, taken):
        done = taken.copy(into, overwrite=True, dry_run=dry_run, progress=progress, **how)
        return _said(done, _REPLACED) if dry_run else done
    done = taken.copy_contents(into, dry_run=dry_run, progress=progress, **how)
    return _said(done, _IN_PLACE) if dry_run else done


def _said(planned: Copied, what: str) -> Copied:
    """The same, with what there is to know of it before it is done."""
    return replace(planned, warnings=(*planned.warnings, what))


def _taken(backup: Image, until: datetime | None) -> Image:
    """The archive that is restored. Raises `NotFound` where there is none."""
    backup = replace(backup, path=canonical(backup.path))
    try:
        listed = backup.host.list(backup.path, long=True)
    except NotFound:
        return _of_series(backup, until)
    itself = next((each for each in listed if canonical(each.path) == backup.path), None)
    if itself is None:
        names = _series_of(backup)
        raise UsageError(f"{backup} is a directory; write which image{_there(names, backup.path)}")
    # Of one that is partial, or damaged in its first bytes, its host says so once it is to be read.
    damaged = itself.state == "partial" or archive_format(itself.path)
    if isinstance(itself, ImageInfo) and itself.compression is None and not damaged:
        raise UsageError(
            f"{backup} is no archive, and so no backup; 'virtstore copy' copies images"
        )
    if until is None:
        return backup
    if parse(backup.path):
        raise UsageError(f"{backup} is one backup; a time chooses one of DIR/NAME")
    return _of_series(backup, until)


def _of_series(backup: Image, until: datetime | None) -> Image:
    """The newest backup of an image that was made until then."""
    directory, _, name = backup.path.rpartition("/")
    series = _series_of(replace(backup, path=directory or "/"))
    if name not in series:
        why = f"there is neither such an archive nor a backup of {name!r} here"
        raise NotFound(f"{why}{_there(series, directory)}", host=backup.host.name, path=backup.path)
    taken = chosen_of(series[name], datetime.now(UTC), until)
    if taken is None:
        raise NotFound(_none_of(series[name], until), host=backup.host.name, path=backup.path)
    return backup.host.image(taken.path)


def _series_of(directory: Image) -> dict[str, tuple[Backup, ...]]:
    """The backups in a directory, by image."""
    there = found_backups(directory.host._sessions, directory.path)
    return {series.name: series.backups for series in there.series}


def _there(series: Iterable[str], directory: str) -> str:
    names = [f"{directory}/{name}" for name in series]
    told = ", ".join(names[:_MOST_NAMES]) + (", …" if names[_MOST_NAMES:] else "")
    return f"; there are backups of {told}" if names else "; there is no backup in there"


def _none_of(backups: Sequence[Backup], until: datetime | None) -> str:
    whole = [each.made for each in backups if each.whole]
    if not whole:
        return "of this image there is no whole backup; 'virtstore list -l' shows what there is"
    told = f"no backup of this image is of {stamp(until)} or before" if until else ""
    return f"{told}; the oldest is of {stamp(min(whole))}"


def _into(target: Image, taken: Image) -> Image:
    """The target itself, or in a directory or volume group the image that the backup is of."""
    name, path = parse(taken.path), canonical(target.path)
    if name is None:
        return target
    try:
        listed = target.host.list(path)
    except NotFound:
        return target
    if any(canonical(entry.path) == path for entry in listed):
        return target
    # What LVM lets a volume be called has few characters (lvm(8), "Valid names").
    volume = re.sub(r"[^\w+.-]", "-", name.name, flags=re.ASCII)
    new = volume if path.startswith("/dev/") else f"{name.name}.img"
    return target.host.image(f"{path}/{new}")


def _image_at(target: Image) -> ImageInfo | None:
    """What is known of the image that has the target's name, if there is one."""
    try:
        return target.info()
    except NotFound:
        return None


def _is_smaller(there: ImageInfo, taken: Image) -> bool:
    """Whether an image has no room for what a backup holds."""
    size = taken.info().size
    return size is not None and (there.size or 0) < size
