"""The commands that change nothing: list, info, storage-info, verify, diff."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from virtstore.backups.sampling import parse_share
from virtstore.cli.image_text import info_text, list_text
from virtstore.cli.many_hosts import on_each_host
from virtstore.cli.meter import meter
from virtstore.cli.options import (
    Common,
    Jobs,
    Timeout,
    hinting_at_host,
    image_at,
    located,
    open_at,
    seconds_of,
)
from virtstore.cli.render import (
    difference_text,
    error_json,
    print_error,
    print_json,
    print_notice,
    short_entry,
    verified_text,
    whole_entry,
)
from virtstore.cli.several import Sessions, on_hosts, refuse_jobs, sessions
from virtstore.cli.sorting import SortKey, in_order
from virtstore.cli.storage_text import nothing_configured, storage_text
from virtstore.cli.terminal import screen_of
from virtstore.cli.verifying import archives_meant
from virtstore.cli.whole_host import all_of
from virtstore.client.api import Host
from virtstore.errors import Error
from virtstore.location import Location, parse_host, parse_location
from virtstore.model import Entry, ImageInfo, StorageInfo, Verified
from virtstore.progress import ProgressCallback

_DEFAULTS = Common()
#: An entry, or the JSON of a failure.
_Told: TypeAlias = Entry | ImageInfo | dict[str, dict[str, str | None]]
Exact = Annotated[bool, Parameter(name="--bytes", negative=())]


def list_(
    location: str = "local:",
    /,
    *more: str,
    long: Annotated[bool, Parameter(name=("--long", "-l"), negative=())] = False,
    recursive: Annotated[bool, Parameter(name=("--recursive", "-r"), negative=())] = False,
    sort: SortKey = "name",
    reverse: Annotated[bool, Parameter(negative=())] = False,
    exact: Exact = False,
    timeout: Timeout = None,
    options: Common = _DEFAULTS,
) -> int:
    """List a directory, a volume group, or what a host has of both.

    Up to 50 hosts are asked at the same time, and told of in the order in which they are named.

    Parameters
    ----------
    location
        A directory, a volume group, an image, or a host (HOST:, or local:, the default).
    more
        Others.
    long
        Sizes, contents and use as well.
    recursive
        Subdirectories as well.
    sort
        By name; or the largest, the one that takes the most space, or the newest first.
    reverse
        The other way round.
    exact
        Exact numbers of bytes instead of units.
    timeout
        Seconds (or 5m) in which each host has to have answered. What is late fails, and the
        others are told. Without it a host that is at work may take its time.

    Examples
    --------
    virtstore list a:
    virtstore list -l a:/dev/vg0 --sort allocated --bytes
    virtstore list -l node{01..40}:/mnt/images --timeout 60
    """
    limit = seconds_of(timeout)
    places = [parse_location(text) for text in (location, *more)]
    typed = dict(zip(places, (location, *more), strict=True))
    screen = screen_of(sys.stdout)
    empty: dict[Location, tuple[str, str]] = {}  # said once nothing is drawn any more
    failed: dict[Location, Sequence[Error]] = {}  # the same

    def look(host: Host, at: Location, progress: ProgressCallback) -> Sequence[_Told]:
        asked = long or sort != "name"
        with hinting_at_host(typed[at]):
            if at.path is None and recursive:
                found, failed[at] = all_of(host, long=asked, progress=progress)
            else:
                found = host.list(at.path, long=asked, recursive=recursive, progress=progress)
        if not found:
            of_host = (host.name, nothing_configured(host.name))
            empty[at] = of_host if at.path is None else (str(at), "nothing there")
        found = in_order(found, sort, reverse=reverse)
        if long and not options.json:
            return found
        told = [whole_entry(each) if long else short_entry(each) for each in found]
        return [*told, *map(error_json, failed.get(at, ()) if options.json else ())]

    def text(told: Sequence[_Told]) -> str | None:
        found = [each for each in told if not isinstance(each, dict)]
        if not found:
            return None
        return list_text(found, long=long, exact=exact, sort=sort, screen=screen)

    status = on_each_host(places, look, text, options, timeout=limit, flat=True, apart=long)
    for where, notice in (empty[place] for place in places if place in empty):
        print_notice(where, notice, options)
    failures = [each for place in places for each in failed.get(place, ())]
    for each in failures if not options.json else ():
        print_error(each, as_json=False)
    return status or next((each.exit_status for each in failures), 0)


def info(location: str, /, *more: str, exact: Exact = False, options: Common = _DEFAULTS) -> int:
    """Show everything that can be read off an image.

    Parameters
    ----------
    location
        The image.
    more
        Others.
    exact
        Exact numbers of bytes only, no units.

    Examples
    --------
    virtstore info a:/mnt/images/web.img
    virtstore info a:/dev/vg0/web --json
    """
    places = [located(text) for text in (location, *more)]
    screen = screen_of(sys.stdout)

    def looked_at(host: Host, at: Location, progress: ProgressCallback) -> ImageInfo:
        return image_at(host, at).info(progress=progress)

    return on_each_host(
        places,
        looked_at,
        lambda found: info_text(found, exact=exact, screen=screen),
        options,
        apart=True,
    )


def storage_info(
    host: str = "local:",
    /,
    *more: str,
    exact: Exact = False,
    timeout: Timeout = None,
    options: Common = _DEFAULTS,
) -> int:
    """Show a host's storage, its free space, and what it can handle.

    Up to 50 hosts are asked at the same time, and told of in the order in which they are named.

    Parameters
    ----------
    host
        HOST, ssh://HOST, or local: (the default).
    more
        Other hosts.
    exact
        Exact numbers of bytes instead of units.
    timeout
        Seconds (or 5m) in which each host has to have answered. What is late fails, and the
        others are told.

    Examples
    --------
    virtstore storage-info
    virtstore storage-info a b
    virtstore storage-info node{01..40} --timeout 30 --json
    """
    screen = screen_of(sys.stdout)

    def looked_at(host: Host, at: Location, progress: ProgressCallback) -> StorageInfo:
        return host.storage_info(progress=progress)

    return on_each_host(
        [Location(parse_host(text)) for text in (host, *more)],
        looked_at,
        lambda found: storage_text(found, exact=exact, screen=screen),
        options,
        timeout=seconds_of(timeout),
        apart=True,
    )


def verify(
    location: str,
    /,
    *more: str,
    sample: str | None = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    jobs: Jobs = None,
    options: Common = _DEFAULTS,
) -> int:
    """Read an archive through and check every block and the whole.

    Of a directory that is done for all archives in it and below. What is still partial is none.

    The digest that is printed is virtstore's own: BLAKE3 over the BLAKE3 digests of the image's
    chunks of 1 MiB. Neither sha256sum nor b3sum prints the same. It is of the image, whatever
    archive that is in.

    Parameters
    ----------
    location
        The archive, or a directory of archives (of a raw image the digest is computed).
    more
        Others, each for itself.
    sample
        Only such a part of the archives, another one each day (UTC): with 5% each is read once in
        20 days, if it is run daily. What is due is known by name and date; nothing is stored.
    quick
        Hold the archive's bytes against the checksums that it keeps of them, and decompress
        nothing: as fast as the disk.
    jobs
        So many at a time (default: 1).

    Examples
    --------
    virtstore verify b:/mnt/backups/web.img.zst
    virtstore verify b:/mnt/backups/web.img.zst b:/mnt/backups/db.img.zst -j 2
    virtstore verify b:/mnt/backups --sample 5%
    """
    places = [located(text) for text in (location, *more)]
    share = parse_share(sample) if sample is not None else None

    def verified(hosts: Sessions, at: Location, progress: ProgressCallback) -> Verified:
        return image_at(hosts(at), at).verify(quick=quick, progress=progress)

    refuse_jobs(jobs)
    with sessions(options) as hosts:
        if jobs and jobs > 1:
            hosts.log_in(places)
        meant = archives_meant(hosts, places, share, options)
        those, listed = (places, False) if meant is None else (meant, True)
        return on_hosts(hosts, those, verified, verified_text, options, jobs=jobs, listed=listed)


def diff(left: str, right: str, /, *, options: Common = _DEFAULTS) -> int:
    """Tell how many bytes of two images differ.

    Only digests move, BLAKE3's of each MiB. Exits 1 where they differ. Some failures exit 1 as
    well: these print no result, and with --json an "error".

    Parameters
    ----------
    left
        An image or archive.
    right
        Another.

    Examples
    --------
    virtstore diff a:/dev/vg0/web b:/mnt/backups/web.img.zst
    """
    one, other = located(left), located(right)
    with (
        open_at(one, options) as here,
        open_at(other, options) as there,
        meter(options) as progress,
    ):
        found = image_at(here, one).diff(image_at(there, other), progress=progress)
    print_json(found) if options.json else print(difference_text(found))
    return int(found.different > 0)
