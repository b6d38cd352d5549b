"""The disk in a container that was just made, as a draft: written straight into its file.

No daemon is needed for what a copy does: to write, and to zero. It is started for whatever else is
asked of the draft; from then on all goes by it, since it keeps what it has read of the tables.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from virtstore.backends.base import Elsewhere, Holds, Identity, ImageDraft, PageCache, Version
from virtstore.backends.descriptor import DescriptorCache
from virtstore.backends.files import container_tools
from virtstore.backends.files.container import ContainerDraft
from virtstore.backends.files.file import FileDraft
from virtstore.backends.files.new_clusters import NewClusters
from virtstore.backends.files.sparse import runs
from virtstore.model import ContainerFormat, Extent


class NewContainer(ImageDraft):
    """See above. `file` is a qcow2 that was just made, and `new_clusters.fits`; this owns it."""

    container: Final[ContainerFormat] = "qcow2"
    holds: Holds = "zeros"

    def __init__(self, file: FileDraft, elsewhere: Elsewhere) -> None:
        self._file, self._elsewhere = file, elsewhere
        self._clusters = NewClusters(file)
        self._served: ContainerDraft | None = None
        self._serving = threading.Lock()

    def _disk(self) -> ContainerDraft:
        """The draft as the daemon serves it. No other thread writes meanwhile."""
        with self._serving:
            if self._served is None:
                # Where it cannot be served, its file is written here as before.
                disk = ContainerDraft(self._file, self._elsewhere, holds="zeros", lent=True)
                self._served = disk
            return self._served

    @property
    def size(self) -> int:
        return self._clusters.size

    @property
    def allocated(self) -> int:
        return self._file.allocated

    @property
    def identity(self) -> Identity:
        return self._file.identity

    @property
    def version(self) -> Version:
        return self._file.version

    @property
    def cache(self) -> PageCache:
        return _Written(self._file.descriptor, self._clusters)

    @property
    def keeps(self) -> tuple[int, ...]:
        return self._disk().keeps

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self._file.whole

    def read_at(self, offset: int, length: int) -> bytes:
        return self._disk().read_at(offset, length)

    def extents(self) -> Iterator[Extent]:
        return self._disk().extents()

    def lend(self) -> AbstractContextManager[int]:
        return self._disk().lend()

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if self._served:
            return self._served.write_at(offset, data)
        contents = data if isinstance(data, (bytes, bytearray)) else bytes(data)
        for start, end, empty in runs(contents, offset):
            if empty:  # such clusters take no room
                self.zero(offset + start, end - start)
            else:
                self._write(offset + start, memoryview(contents)[start:end])
        return None

    def _write(self, offset: int, data: memoryview) -> None:
        for place in self._clusters.allocated(offset, len(data)):
            begin = place.offset - offset
            self._file.write_at(place.at or 0, data[begin : begin + place.length])

    def zero(self, offset: int, length: int) -> None:
        if self._served:
            return self._served.zero(offset, length)
        for place in self._clusters.places(offset, length):
            if place.at is not None:
                self._file.zero(place.at, place.length)
        return None

    def flush(self) -> None:
        (self._served or self._file).flush()

    def note_losses(self, note: str) -> bool:
        return self._file.note_losses(note)

    def finish(self) -> None:
        if self._served:
            self._served.finish()
        elif not self.whole:
            self._file.flush()
            container_tools.check(self._file.descriptor)
            self._file.finish()

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        self._file.publish(overwrite=overwrite, like=like)

    def close(self) -> None:
        (self._served or self._file).close()


class _Written(DescriptorCache):
    """The cache of a container that is written here: what is in it of a range of its disk."""

    def __init__(self, fd: int, clusters: NewClusters) -> None:
        super().__init__(fd)
        self._clusters = clusters

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        return []

    def let_go(self, offset: int, length: int) -> None:
        for at, size in self._in_the_file(offset, length):
            super().let_go(at, size)

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        for at, size in self._in_the_file(offset, length):
            super().write_out(at, size, wait=wait)

    def _in_the_file(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for place in self._clusters.places(offset, length):
            if place.at is not None:
                yield place.at, place.length
