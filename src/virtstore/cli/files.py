"""The commands that look into images: files and extract."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.cli.meter import meter
from virtstore.cli.options import PIPE_WORD, Changing, Common, Number, image_at, located, open_at
from virtstore.cli.render import bytes_text, print_json, print_notice
from virtstore.cli.table import Cell, Column, Row, table
from virtstore.cli.terminal import Screen, screen_of
from virtstore.errors import UsageError
from virtstore.location import Location
from virtstore.model import Extracted, FileEntry
from virtstore.units import format_size

_DEFAULTS: Final = Common()
_CHANGING: Final = Changing()
_COLUMNS: Final = (
    Column("TYPE"),
    Column("SIZE", "number"),
    Column("MODIFIED (UTC)", "time"),
    Column("PATH", "path"),
)


def files(
    location: str,
    path: str = "/",
    /,
    *,
    long: Annotated[bool, Parameter(name=("--long", "-l"), negative=())] = False,
    recursive: Annotated[bool, Parameter(name=("--recursive", "-r"), negative=())] = False,
    partition: Number = None,
    volume: str | None = None,
    exact: Annotated[bool, Parameter(name="--bytes", negative=())] = False,
    options: Common = _DEFAULTS,
) -> None:
    """List the files in an image, without mounting it.

    Read are ext2 to ext4, XFS, Btrfs, NTFS and FAT, in partitions and logical volumes, and of
    archives those in virtstore's own format. A name with something in it that a terminal would obey
    is shown with \\xNN for that, and can be typed so.

    Parameters
    ----------
    location
        The image or archive.
    path
        A directory or file in it (default: /).
    long
        Types, sizes and times as well, and where links lead.
    recursive
        What is in subdirectories as well.
    partition
        The number of the partition (default: that of the largest file system that can be read).
    volume
        The logical volume within the image, NAME or VG/NAME.
    exact
        Exact numbers of bytes instead of units.

    Examples
    --------
    virtstore files b:/mnt/backups/web.img.zst
    virtstore files b:/mnt/backups/web.img.zst /etc -l
    virtstore files a:/dev/vg0/web / --partition 2
    """
    place = located(location)
    with open_at(place, options) as host, meter(options) as progress:
        found = image_at(host, place).files(
            path, partition=partition, volume=volume, recursive=recursive, progress=progress
        )
    if options.json:
        print_json(list(found))
    elif found:
        screen = screen_of(sys.stdout)
        print(_table(found, screen, exact=exact) if long else "\n".join(map(_short, found)))
    else:
        print_notice(str(place), f"{path} is empty", options)
    _tell(found.notes, place, options)
    for each in found:
        _tell([f"{each.path}: {why}" for why in each.warnings], place, options)


def extract(
    location: str,
    path: str,
    /,
    *more: str,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = ".",
    partition: Number = None,
    volume: str | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    options: Changing = _CHANGING,
) -> None:
    """Copy single files out of an image, without mounting it.

    A directory is copied with all that is in it. A link that is named is followed, within the
    image; those that are met in directories are made as links. Contents, names and times are
    carried over; owners, modes, attributes and hard links are not. Devices, sockets and pipes are
    not made.

    Parameters
    ----------
    location
        The image or archive.
    path
        A file or directory in it.
    more
        Others.
    output
        The directory here to which they go, each under its own name (default: the current one), or
        - for standard output, to which one file can go.
    partition
        The number of the partition (default: that of the largest file system that can be read).
    volume
        The logical volume within the image, NAME or VG/NAME.
    overwrite
        Replace files that are there.

    Examples
    --------
    virtstore extract b:/mnt/backups/web.img.zst /etc/fstab -o -
    virtstore extract b:/mnt/backups/web.img.zst /etc/nginx /var/www -o restored
    """
    place = located(location)
    if output == PIPE_WORD:
        if options.dry_run or options.json:
            raise UsageError("standard output is for the file: leave --json and --dry-run out")
        _to_standard_output(place, (path, *more), partition, volume, options)
        return
    with open_at(place, options) as host, meter(options) as progress:
        done = image_at(host, place).extract(
            path,
            *more,
            directory=output,
            partition=partition,
            volume=volume,
            overwrite=overwrite,
            dry_run=options.dry_run,
            progress=progress,
        )
    if options.json:
        print_json(done)
    elif options.dry_run or not options.quiet:
        print(_extracted_text(done))
        _tell(done.warnings, place, options)


def _to_standard_output(
    place: Location,
    paths: tuple[str, ...],
    partition: int | None,
    volume: str | None,
    options: Common,
) -> None:
    if len(paths) > 1:
        raise UsageError("-o - is for one file; name a directory (-o DIR) for several")
    if os.isatty(1):
        raise UsageError(
            "-: standard output is a terminal, which would obey what a guest wrote; pipe it into a"
            " program (less) or a file"
        )
    with open_at(place, options) as host, meter(options) as progress:
        for piece in image_at(host, place).read_file(
            paths[0], partition=partition, volume=volume, progress=progress
        ):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _short(each: FileEntry) -> str:
    return f"{each.path}/" if each.type == "directory" and each.path != "/" else each.path


def _table(found: Iterable[FileEntry], screen: Screen, *, exact: bool) -> str:
    return "\n".join(table(_COLUMNS, [_row(each, exact=exact) for each in found], screen))


def _row(each: FileEntry, *, exact: bool) -> Row:
    size = (str(each.size) if exact else format_size(each.size)) if each.type == "file" else "-"
    path = f"{each.path} -> {each.target}" if each.type == "symlink" else _short(each)
    return [Cell(each.type), Cell(size), Cell(_time(each.modified)), Cell(path)]


def _time(modified: datetime | None) -> str:
    return f"{modified:%Y-%m-%d %H:%M}" if modified else "-"


def _extracted_text(done: Extracted) -> str:
    parts = [
        f"{count} {one if count == 1 else many}"
        for count, one, many in (
            (done.files, "file", "files"),
            (done.directories, "directory", "directories"),
            (done.links, "link", "links"),
        )
        if count
    ]
    told = f"{', '.join(parts) or 'nothing'}, {bytes_text(done.size)}, to {done.directory}"
    return f"would extract {told}" if done.dry_run else told


def _tell(notes: Iterable[str], place: Location, options: Common) -> None:
    for note in notes:
        print_notice(str(place), note, options)
