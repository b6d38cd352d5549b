"""Which images of a directory or volume group are backed up, and what their backups are called:
like the image, without the suffix of its format.

Images of several hosts can have one name. Each has a series of its own all the same: the first
that comes to a directory has the name, the second the name with its host, the third, of that host
too, its whole path with its host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from virtstore.model import Entry, ImageInfo
from virtstore.names import KINDS, OPENED, without_archive_suffix

#: What the name of an image loses, besides the suffix of an archive.
_SUFFIXES: Final = (".img", ".raw", *(suffix for kind in OPENED for suffix in KINDS[kind].suffixes))


def image_name(path: str) -> str:
    """What the image at a path is called: `web` for /images/web.img, /images/web.qcow2.zst and
    /dev/vg0/web."""
    name = path.rstrip("/").rpartition("/")[2]
    bare = without_archive_suffix(name)
    suffix = next((each for each in _SUFFIXES if bare.lower().endswith(each)), "")
    return bare[: len(bare) - len(suffix)] or name


def series_names(path: str, host: str) -> Iterator[str]:
    """What the series of an image may be called, the first that no other image has: `web`, `web@a`,
    `images-web@a`."""
    name = image_name(path)
    yield name
    yield f"{name}@{host}"
    yield f"{image_name(path.strip('/').replace('/', '-'))}@{host}"


def chosen(
    listed: Iterable[Entry | ImageInfo], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """The paths of what is backed up of a long listing: images whose names fit a pattern of
    `include`, if there is any, and none of `exclude`. Snapshots, partial images and archives are
    left out, and subdirectories with all that is in them."""
    return [
        entry.path
        for entry in listed
        if isinstance(entry, ImageInfo)
        and _is_an_image(entry)
        and _is_meant(entry, include, exclude)
    ]


def not_readable(
    listed: Iterable[Entry | ImageInfo], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """The paths of what fits the same patterns and is nothing that virtstore opens: a link, a pipe,
    a socket, or a file whose name is not UTF-8. An image may be meant by it."""
    return [
        entry.path
        for entry in listed
        if entry.type == "other" and _is_meant(entry, include, exclude)
    ]


def _is_meant(entry: Entry | ImageInfo, include: Sequence[str], exclude: Sequence[str]) -> bool:
    return (not include or _fits(entry, include)) and not _fits(entry, exclude)


def _is_an_image(info: ImageInfo) -> bool:
    snapshot = info.snapshot_of is not None or info.type.endswith("-snapshot")
    return info.state == "complete" and info.compression is None and not snapshot


def _fits(entry: Entry | ImageInfo, patterns: Sequence[str]) -> bool:
    name = entry.path.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) for pattern in patterns)
