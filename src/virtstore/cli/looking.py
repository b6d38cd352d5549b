"""The commands that change nothing: list, info, storage-info, verify, diff."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from virtstore.cli.meter import meter
from virtstore.cli.options import Common, image_at, located, open_at, open_host
from virtstore.cli.render import (
    difference_text,
    info_text,
    list_text,
    print_json,
    storage_text,
    verified_text,
    whole_entry,
)
from virtstore.location import parse_location

_DEFAULTS = Common()


def list_(
    location: str,
    /,
    *,
    long: Annotated[bool, Parameter(name=("--long", "-l"), negative=())] = False,
    recursive: Annotated[bool, Parameter(name=("--recursive", "-r"), negative=())] = False,
    options: Common = _DEFAULTS,
) -> None:
    """List a directory's images and subdirectories, a VG's volumes, or a host's roots.

    Parameters
    ----------
    location
        A directory, a volume group, an image, or a host (HOST: or local:).
    long
        Sizes, contents and use as well.
    recursive
        Subdirectories as well.
    """
    at = parse_location(location)
    with open_at(at, options) as host:
        found = host.list(at.path, long=long, recursive=recursive)
    if options.json:
        print_json([whole_entry(each) for each in found] if long else found)
    elif not found and at.path is None:
        print(f"{host.name}: nothing is configured here", file=sys.stderr)
    elif found or long:
        print(list_text(found, long=long))


def info(location: str, /, *, options: Common = _DEFAULTS) -> None:
    """Show everything that can be read off an image.

    Parameters
    ----------
    location
        The image.
    """
    at = located(location)
    with open_at(at, options) as host:
        found = image_at(host, at).info()
    print_json(found) if options.json else print(info_text(found))


def storage_info(host: str = "local:", /, *, options: Common = _DEFAULTS) -> None:
    """Show a host's storage: roots, free space, file systems and formats that it can handle.

    Parameters
    ----------
    host
        HOST:, ssh://HOST, or local: (the default).
    """
    with open_host(host, options) as session:
        found = session.storage_info()
    print_json(found) if options.json else print(storage_text(found))


def verify(location: str, /, *, options: Common = _DEFAULTS) -> None:
    """Read an archive through and check every block and the whole.

    Parameters
    ----------
    location
        The archive (of a raw image the digest is computed).
    """
    at = located(location)
    with open_at(at, options) as host, meter(options) as progress:
        found = image_at(host, at).verify(progress=progress)
    print_json(found) if options.json else print(verified_text(found))


def diff(left: str, right: str, /, *, options: Common = _DEFAULTS) -> int:
    """Tell how many bytes of two images differ; only digests move. Exits 1 where they do.

    Parameters
    ----------
    left
        An image or archive.
    right
        Another.
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
