"""Where in the file of a qcow2 the clusters of its disk lie, as its tables say.

Through QEMU's storage daemon and FUSE each byte is copied twice more (exporter.py). What lies in
the file as the guest sees it needs no engine, and is read where it lies. Two numbers lead to it: of
the L1 table and of an L2 table. Anybody may have written them, a guest too: they are only looked
up, and lead nowhere but into the file itself. What is not as plain as that (`NotPlain`) is left to
the daemon: compressed clusters, clusters that are marked as zeros, and numbers that make no sense.

Source: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

from virtstore.backends.files.file import FileImage
from virtstore.formats.disks.qcow2_header import COMPRESSION, read_header

#: Bytes of an entry of either table.
ENTRY: Final = 8
#: In an entry beside the cluster's place: that nobody else has it, no snapshot either.
ONLY_HERE: Final = 1 << 63
#: The other bits that are no part of a place: compressed, zeros, and those that mean nothing yet.
_NOT_PLAIN: Final = 0x7F000000000001FF
#: Bytes of a cluster. Of smaller ones there are too many to look each up in Python.
_LEAST: Final = 32 << 10


class NotPlain(Exception):
    """Only QEMU knows what is there."""


class Place(NamedTuple):
    """A part of the disk, and the byte of the file at which it lies; None for zeros that lie
    nowhere."""

    offset: int
    length: int
    at: int | None


def has_plain(file: FileImage) -> bool:
    """Whether clusters can be looked up in a qcow2, of which `disks.examine` found the header in
    order: it lies over nothing, and its clusters have no parts."""
    header = read_header(file)
    known = not header.incompatible & ~COMPRESSION and not header.encryption
    return known and not header.backing_offset and header.cluster_size >= _LEAST


class Clusters:
    """Those of the qcow2 `file`, which `has_plain` ones. Any thread may look."""

    def __init__(self, file: FileImage) -> None:
        self._file = file
        self._header = read_header(file)
        self._cluster = self._header.cluster_size

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._header.size

    def places(self, offset: int, length: int) -> Iterator[Place]:
        """Where a range of the disk lies. Raises `NotPlain`."""
        covered = self._header.l1_coverage
        end = offset + length
        if end > self.size:
            raise OSError(errno.EIO, "the disk of the container ends before that")
        while offset < end:
            stop = min(end, offset - offset % covered + covered)
            yield from _joined(self._lie(offset, stop))
            offset = stop

    def _lie(self, offset: int, stop: int) -> list[Place]:
        """Where each cluster of a range lies that one L2 table tells of."""
        first, last = offset // self._cluster, (stop - 1) // self._cluster
        entries = self._entries_of(first, last - first + 1)
        if entries is None:
            return [Place(offset, stop - offset, None)]
        found = []
        for number, entry in enumerate(entries, first):
            start = max(offset, number * self._cluster)
            length = min(stop, (number + 1) * self._cluster) - start
            at = self._plain(entry)
            found.append(Place(start, length, at and at + start % self._cluster))
        return found

    def _entries_of(self, first: int, count: int) -> list[int] | None:
        """The entries of clusters that one L2 table tells of; None where there is no such table."""
        table = self._table(first)
        return None if table is None else self._entries(self._where(table, first), count)

    def _table(self, cluster: int) -> int | None:
        return self._plain(self._entries(self._where_of_table(cluster), 1)[0])

    def _where_of_table(self, cluster: int) -> int:
        """Where the entry for the L2 table lies that tells of a cluster."""
        number = cluster * self._cluster // self._header.l1_coverage
        return self._header.l1_offset + number * ENTRY

    def _where(self, table: int, cluster: int) -> int:
        """Where in its L2 table a cluster's entry lies."""
        return table + cluster % (self._cluster // ENTRY) * ENTRY

    def _plain(self, entry: int) -> int | None:
        """The place that an entry tells; None where it tells of none."""
        at = entry & ~ONLY_HERE
        if at & _NOT_PLAIN or at % self._cluster:
            raise NotPlain
        return at or None

    def _entries(self, where: int, count: int) -> list[int]:
        return list(struct.unpack(f">{count}Q", self._file.read_whole(where, count * ENTRY)))


def _joined(places: list[Place]) -> Iterator[Place]:
    """The same places, each as long as it lies in one piece."""
    for _, parts in groupby(places, lambda place: place.at and place.at - place.offset):
        first, *more = parts
        yield first._replace(length=sum((part.length for part in more), first.length))
