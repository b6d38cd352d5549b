"""Which archives `verify` is about: those that are named, and those in directories."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction

from virtstore.backups.sampling import is_due
from virtstore.cli.meter import meter
from virtstore.cli.options import Common
from virtstore.cli.render import print_notice
from virtstore.cli.several import Sessions
from virtstore.errors import Error, NotFound
from virtstore.location import Location, canonical
from virtstore.model import Entry, ImageInfo
from virtstore.names import archive_format
from virtstore.progress import Progress, ProgressCallback


def archives_meant(
    hosts: Sessions, places: Sequence[Location], share: Fraction | None, options: Common
) -> list[Location] | None:
    """The archives that are named, and those in directories; None where only archives are named.
    `share`: only those that are due today. Raises `NotFound` for a directory without any."""
    below = []
    for at in places:
        with meter(options, str(at) if len(places) > 1 else "") as progress:
            below.append(_archives_below(hosts, at, progress))
    if share is None and all(each is None for each in below):
        return None
    meant = [
        each
        for at, found in zip(places, below, strict=True)
        for each in ([at] if found is None else found)
    ]
    return meant if share is None else _due_today(meant, share, options)


def _archives_below(
    hosts: Sessions, at: Location, progress: ProgressCallback | None
) -> list[Location] | None:
    """The archives in a directory, and in those below: in a bucket what is called like one. None
    for what is no directory, or cannot be listed."""
    path = canonical(at.path or "")
    if archive_format(path):  # its name says that it is none
        return None
    if progress:
        progress(Progress("verify", 0, 0, "connecting"))
    try:
        listed = hosts(at).list(path, recursive=True)
        if not any(each.type == "object" for each in listed):  # of which a look is a request each
            listed = hosts(at).list(path, long=True, recursive=True)
    except Error:  # verifying it fails in the same way, and tells so
        return None
    if any(each.path == path for each in listed):
        return None
    found = [Location(at.address, each.path) for each in listed if _is_archive(each)]
    if not found:
        host = hosts(at).name
        raise NotFound("there is no archive in this directory, or below it", host=host, path=path)
    return found


def _is_archive(entry: Entry | ImageInfo) -> bool:
    """Whether it is one, or is called so: that may be a damaged one."""
    if entry.state != "complete" or entry.type in ("directory", "other"):
        return False
    is_one = isinstance(entry, ImageInfo) and entry.compression is not None
    return is_one or archive_format(entry.path) is not None


def _due_today(archives: Sequence[Location], share: Fraction, options: Common) -> list[Location]:
    """Those that are among the share of today (UTC)."""
    today = datetime.now(UTC).date()
    found = [at for at in archives if is_due((at.path or "").rpartition("/")[2], today, share)]
    many = f"{len(found)} of {len(archives)} archives are due"
    print_notice(f"sample of {today}", many, options)
    return found
