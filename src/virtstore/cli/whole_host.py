"""A whole host, listed: each of its roots by itself. One that cannot be reached hides no other."""

from __future__ import annotations

from virtstore.client.api import Host
from virtstore.errors import ConnectionFailed, Error
from virtstore.model import Entry, ImageInfo
from virtstore.progress import ProgressCallback

#: What a root is listed as that is no place of images, but one itself.
_IMAGES = ("block",)


def all_of(
    host: Host, *, long: bool, progress: ProgressCallback
) -> tuple[list[Entry | ImageInfo], list[Error]]:
    """The roots of a host with all that is in them, by path, and why some could not be listed.
    Raises `Error` where the host itself cannot be asked."""
    found = host.list(long=long, progress=progress)
    roots = [each.path for each in found if isinstance(each, Entry) and each.type not in _IMAGES]
    failures: list[Error] = []
    for path in roots:
        try:
            found += host.list(path, long=long, recursive=True, progress=progress)
        except Error as error:
            if isinstance(error, ConnectionFailed) and error.path is None:
                raise  # the host has gone away
            error.path = error.path or path
            failures.append(error)
    return sorted(found, key=lambda each: (each.path, each.state)), failures
