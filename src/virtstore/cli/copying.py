"""The commands that move images: copy, copy-contents, compress, uncompress."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore import protocol
from virtstore.cli.images import change
from virtstore.cli.meter import meter
from virtstore.cli.options import Changing, image_at, located, open_at
from virtstore.cli.render import copy_text, print_json
from virtstore.client import Copied, Image
from virtstore.model import Compression
from virtstore.progress import ProgressCallback

_DEFAULTS = Changing()
#: As nice(1) makes a command.
_NICE: Final = 10
_Flag = Annotated[bool, Parameter(negative=())]
_Copying = Callable[[Image, Image, ProgressCallback | None], Copied]
_Level = Annotated[int | None, Parameter(allow_leading_hyphen=True)]


def copy(
    source: str,
    target: str,
    /,
    *,
    snapshot: _Flag = False,
    archive: _Flag = False,
    overwrite: _Flag = False,
    format: Compression | None = None,
    level: _Level = None,
    bwlimit: str | None = None,
    allow_in_use: _Flag = False,
    nice: _Flag = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Make TARGET a copy of SOURCE, on any two hosts.

    Without --archive the target is a mountable image, even if the source is an archive.

    Parameters
    ----------
    source
        An image or archive.
    target
        Where the copy goes; in an existing directory the source's name is kept (and
        loses its .zst or the like where the copy is no archive).
    snapshot
        Copy the image as it is at this moment, from a snapshot.
    archive
        Compress the target.
    overwrite
        Replace an existing target, once the copy is whole.
    format
        The archive's format (default: zstd).
    level
        The compression level. Unless it is given, it falls on the way to an image where the
        link is faster than the compressor.
    bwlimit
        What to move at the most in a second (500K, 10M, 10M/s); 0 is no limit.
    allow_in_use
        Copy an image that somebody may be writing to.
    nice
        Leave processor and disks to others, on both hosts.
    """

    def run(one: Image, other: Image, progress: ProgressCallback | None) -> Copied:
        return one.copy(
            other,
            snapshot=snapshot,
            archive=archive,
            overwrite=overwrite,
            format=format,
            level=level,
            bwlimit=bwlimit,
            allow_in_use=allow_in_use,
            nice=nice,
            dry_run=options.dry_run,
            progress=progress,
        )

    _between(source, target, run, options, nice=nice)


def copy_contents(
    source: str,
    target: str,
    /,
    *,
    snapshot: _Flag = False,
    bwlimit: str | None = None,
    allow_in_use: _Flag = False,
    nice: _Flag = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Overwrite an existing image, at least as large, with SOURCE's contents.

    Only the chunks that differ are moved; the rest of the target is zeroed.

    Parameters
    ----------
    source
        An image or archive.
    target
        The image to overwrite.
    snapshot
        Copy the image as it is at this moment, from a snapshot.
    bwlimit
        What to move at the most in a second (500K, 10M, 10M/s); 0 is no limit.
    allow_in_use
        Copy an image that somebody may be writing to.
    nice
        Leave processor and disks to others, on both hosts.
    """

    def run(one: Image, other: Image, progress: ProgressCallback | None) -> Copied:
        return one.copy_contents(
            other,
            snapshot=snapshot,
            bwlimit=bwlimit,
            allow_in_use=allow_in_use,
            nice=nice,
            dry_run=options.dry_run,
            progress=progress,
        )

    _between(source, target, run, options, nice=nice)


def compress(
    location: str,
    /,
    *,
    format: Compression = "zstd",
    level: _Level = None,
    keep: _Flag = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Make a file an archive (x.img becomes x.img.zst).

    Parameters
    ----------
    location
        The image.
    format
        The archive's format.
    level
        The compression level.
    keep
        Keep the image beside the archive.
    """
    change(
        location,
        lambda path: protocol.CompressImage(path, format, level, keep, options.dry_run),
        options,
        "compress",
    )


def uncompress(location: str, /, *, keep: _Flag = False, options: Changing = _DEFAULTS) -> None:
    """Make an archive an image again (x.img.zst becomes x.img).

    Parameters
    ----------
    location
        The archive.
    keep
        Keep the archive beside the image.
    """
    change(
        location,
        lambda path: protocol.UncompressImage(path, keep, options.dry_run),
        options,
        "uncompress",
    )


def _between(source: str, target: str, run: _Copying, options: Changing, *, nice: bool) -> None:
    """Open a session with each host, copy, and print the account of it."""
    if nice:
        os.nice(_NICE)  # and so is ssh, which encrypts
    one, other = located(source), located(target)
    with (
        open_at(one, options) as here,
        open_at(other, options) as there,
        meter(options) as progress,
    ):
        copied = run(image_at(here, one), image_at(there, other), progress)
    if options.json:
        print_json(copied.result)
    elif not options.quiet:
        print(copy_text(copied.result, dry_run=options.dry_run))
