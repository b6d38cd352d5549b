"""What a host lists, as it comes; of a directory of backups, the few facts that are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

from virtstore.backups.series import Backups, found_in
from virtstore.client.sessions import Sessions
from virtstore.client.telling import Teller
from virtstore.errors import Error
from virtstore.location import canonical
from virtstore.model import Entry, ImageInfo
from virtstore.protocol import Listed, ListImages, Progressed


def entries(
    host: Sessions, request: ListImages, tell: Teller, unseen: set[str]
) -> Iterator[Entry | ImageInfo]:
    """What a host lists, as it says it. `unseen` gets the paths of what was not looked at, each
    before it comes."""
    if host.first is None:
        tell("connecting")
    with closing(host.exchange(request)) as replies:
        for reply in replies:
            if isinstance(reply, Listed):
                unseen.update(reply.unseen)
                yield from reply.entries
                yield from reply.images
            elif isinstance(reply, Progressed):
                tell.heard(reply)


def found_backups(
    host: Sessions,
    path: str,
    tell: Teller | None = None,
    max_age: timedelta | None = None,
    *,
    no_directory: Error | None = None,
    sources: dict[str, str] | None = None,
) -> Backups:
    """The backups in a directory, of whose listing nothing else is kept: there may be a
    million. In a bucket only the newest of each image is looked at. `sources` gets, by path,
    of what image each was made. Raises `no_directory` where it is none."""
    unseen: set[str] = set()
    request = ListImages(path, long=True, sparing=True)

    def listed() -> Iterator[Entry | ImageInfo]:
        for each in entries(host, request, tell or Teller("backups", None), unseen):
            if no_directory and canonical(each.path) == path:
                raise no_directory
            if sources is not None and isinstance(each, ImageInfo) and each.source:
                sources[each.path] = sys.intern(each.source)
            yield each
            unseen.discard(each.path)

    return found_in(path, host.name, listed(), datetime.now(UTC), max_age, unseen)
