"""A copy of an image as it is at one moment: by a snapshot, by its domain, or as it is where nobody
writes to it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.backups.moment import Way, depends_on_its_place, ways
from virtstore.backups.options import BackupOptions
from virtstore.client.api import Copied, Host, Image
from virtstore.copy_options import CopyKeywords
from virtstore.errors import Error, InUse, NotFound
from virtstore.location import canonical
from virtstore.model import ImageInfo, RootInfo

#: With these an agent says that it cannot have the moment in this way.
_NOT_THIS_WAY: Final = ("unsupported", "denied", "not-found", "no-space", "in-use", "failed")

_Copy = Callable[[CopyKeywords], Copied]


class _Written(InUse):
    """Somebody writes to an image that was to be copied as it is."""


class Moments:
    """The moments of a run of backups. Its methods may be called from several threads."""

    def __init__(self, options: BackupOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._roots: dict[Host, tuple[RootInfo, ...]] = {}
        #: A domain has one live copy at a time.
        self._domains: defaultdict[tuple[Host, str], threading.Lock] = defaultdict(threading.Lock)

    def copy(self, source: Image, copy: _Copy) -> Copied:
        """Have `copy` make a copy of one moment of an image, with the options that it takes. Raises
        `InUse` where there is no moment to be had of it."""
        info = _look(source)
        try:
            return self._first_that_goes(source, info, copy)
        except _Written as error:
            if info.in_use:
                raise self._refusal(error, info) from None
        info = _look(source)  # somebody came meanwhile
        try:
            return self._first_that_goes(source, info, copy)
        except _Written as error:
            raise self._refusal(error, info) from None

    def _first_that_goes(self, source: Image, info: ImageInfo, copy: _Copy) -> Copied:
        failed: Error | None = None
        last: Way = "unused"
        for way in self._ways(source.host, info):
            try:
                with self._alone(source.host, info, way):
                    return copy(self._options_for(info, way))
            except Error as error:
                if error.code not in _NOT_THIS_WAY or not is_about(error, source):
                    raise
                # That somebody uses it was known: why there is no other way to its moment was not.
                if way != "unused" or failed is None:
                    failed, last = error, way
        assert failed
        if last == "unused" and isinstance(failed, InUse):
            raise _Written(failed.message, host=failed.host, path=failed.path)
        raise failed

    def _ways(self, host: Host, info: ImageInfo) -> tuple[Way, ...]:
        if self._options.keep_snapshot:
            return ("snapshot",)
        roots = self._roots_of(host) if depends_on_its_place(info) else ()
        wish = self._options
        return ways(info, roots, snapshots=not wish.no_snapshot, live=wish.live)

    def _roots_of(self, host: Host) -> tuple[RootInfo, ...]:
        with self._lock:
            if host not in self._roots:
                self._roots[host] = host.storage_info().roots
            return self._roots[host]

    @contextmanager
    def _alone(self, host: Host, info: ImageInfo, way: Way) -> Iterator[None]:
        if way != "live" or info.domain is None:
            yield
            return
        with self._lock:
            lock = self._domains[host, info.domain.name]
        with lock:
            yield

    def _options_for(self, info: ImageInfo, way: Way) -> CopyKeywords:
        wish = self._options
        options = CopyKeywords(
            archive=True,
            format="zstd",
            bwlimit=wish.bwlimit,
            nice=wish.nice,
            snapshot=way == "snapshot",
            live=way == "live",
            keep_snapshot=wish.keep_snapshot,
        )
        if way != "unused" and info.in_use:
            options["quiesce"] = wish.quiesce
        return options

    def _refusal(self, error: _Written, info: ImageInfo) -> InUse:
        """What `backup` says of an image that somebody writes to, in its own words: the options
        that the agent names are those of `copy`."""
        who = ", ".join(f"{use.by}: {use.detail}" for use in info.in_use)
        seen = f"somebody uses it ({who})" if who else "somebody wrote to it while it was read"
        if self._options.no_snapshot:
            ways = "leave --no-snapshot out, and its place or its domain keeps its moment"
        else:
            ways = (
                "to be backed up at one moment it needs a place with snapshots (LVM, XFS, Btrfs),"
                " or a domain of libvirt's that runs on it; or back it up while nobody uses it"
            )
        return InUse(f"{seen}; {ways}", host=error.host, path=error.path)


def _look(source: Image) -> ImageInfo:
    """What a long listing says of an image: nothing of what `info` takes its time to measure.
    Raises `NotFound`."""
    for entry in source.host.list(source.path, long=True):
        if isinstance(entry, ImageInfo):
            return entry
    raise NotFound("no such image", host=source.host.name, path=source.path)


def is_about(error: Error, image: Image) -> bool:
    """Whether an error is about an image, and not about what else it was to be copied to."""
    return error.host == image.host.name and canonical(error.path or "") == canonical(image.path)
