"""Where in the file of a qcow2 that was just made the clusters of its disk lie, and new ones.

QEMU's storage daemon is sent one request of 128 KiB after the other (exporter.py), which takes
three times as long as to write the same bytes to a plain file. So the data of a new image goes
straight into its file: behind what is there, where QEMU would put it. `qemu-img` made that file,
and so decided all that the header says; and it checks the file once it is written. What anybody
else has written to is changed by QEMU alone.

A kill between two of these writes leaves what it leaves of QEMU's: clusters that nobody uses. For
that a cluster is counted first, and then entered in the table that the disk is read by.

Source: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import errno
import operator
import os
import struct
import threading
from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import Final, NamedTuple

from virtstore.backends.files.file import FileImage
from virtstore.formats.disks.qcow2_header import read_header

#: An entry of the L1 table or of an L2 table: the cluster's place, and that nobody else has it.
_ONLY_HERE: Final = 1 << 63
#: Bytes of an entry in those tables and in that of the reference counts, and of such a count.
_ENTRY: Final = 8
_COUNT: Final = 2
_ONCE: Final = b"\0\1"
#: The same in the header's words: 2^4 bits.
_COUNT_ORDER: Final = 4
#: Bytes of a disk, for which the table of counts that `qemu-img create` makes is long enough.
_LARGEST: Final = 8 << 40


class Place(NamedTuple):
    """A part of the disk, and the byte of the file at which it lies; None for zeros that lie
    nowhere."""

    offset: int
    length: int
    at: int | None


def fits(file: FileImage) -> bool:
    """Whether a qcow2 that was just made is one of those that are written here: with no feature,
    nothing under it, and no snapshots."""
    header = read_header(file)
    more = header.incompatible or header.backing_offset or header.snapshots or header.encryption
    known = header.version == 3 and header.refcount_order == _COUNT_ORDER
    return known and not more and header.size <= _LARGEST


class Clusters:
    """Those of the qcow2 `file`, which `fits`. Any thread may use them."""

    def __init__(self, file: FileImage) -> None:
        self._file = file
        self._header = read_header(file)
        self._cluster = self._header.cluster_size
        self._lock = threading.Lock()
        self._end = file.size + -file.size % self._cluster

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._header.size

    def places(self, offset: int, length: int, *, allocate: bool = False) -> Iterator[Place]:
        """Where a range of the disk lies. `allocate`: all of it lies somewhere from then on; what
        is new there reads as zeros."""
        covered = self._header.l1_coverage
        end = offset + length
        if end > self.size:
            raise OSError(errno.EIO, "the disk of the container ends before that")
        while offset < end:
            stop = min(end, offset - offset % covered + covered)
            with self._lock:
                found = self._lie(offset, stop, allocate=allocate)
            yield from _joined(found)
            offset = stop

    def _lie(self, offset: int, stop: int, *, allocate: bool) -> list[Place]:
        """Where each cluster of a range lies that one L2 table tells of."""
        table = self._table(offset // self._header.l1_coverage, make=allocate)
        if not table:
            return [Place(offset, stop - offset, None)]
        first, last = offset // self._cluster, (stop - 1) // self._cluster
        per_table = self._header.l1_coverage // self._cluster
        where = table + first % per_table * _ENTRY
        entries = self._entries(where, last - first + 1)
        if allocate:
            self._fill(where, entries)
        found = []
        for number, entry in enumerate(entries, first):
            start = max(offset, number * self._cluster)
            length = min(stop, (number + 1) * self._cluster) - start
            at = (entry & ~_ONLY_HERE) + start % self._cluster if entry else None
            found.append(Place(start, length, at))
        return found

    def _table(self, number: int, *, make: bool) -> int:
        """The place of an L2 table; 0 if there is none."""
        where = self._header.l1_offset + number * _ENTRY
        (entry,) = self._entries(where, 1)
        if not entry and make:
            entry, _ = self._new(1)
            self._enter(where, [entry])
        return entry & ~_ONLY_HERE

    def _fill(self, where: int, entries: list[int]) -> None:
        """Give each entry without a cluster one."""
        number = 0
        while number < len(entries):
            lacking = len(list(takewhile(operator.not_, entries[number:])))
            if not lacking:
                number += 1
                continue
            first, count = self._new(lacking)
            made = [first + n * self._cluster for n in range(count)]
            entries[number : number + count] = made
            self._enter(where + number * _ENTRY, made)
            number += count

    def _new(self, wanted: int) -> tuple[int, int]:
        """New clusters, which read as zeros: the entry of the first, and how many there are."""
        per_block = self._cluster // _COUNT
        block, within = divmod(self._end // self._cluster, per_block)
        where = self._header.refcounts_offset + block * _ENTRY
        if block >= self._header.refcounts_clusters * self._cluster // _ENTRY:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        (counts,) = self._entries(where, 1)
        if not counts:  # they count their own cluster as well
            counts = self._longer(1)
            self._file.write_at(counts + within * _COUNT, _ONCE)
            self._enter(where, [counts])
            within += 1
        count = min(wanted, per_block - within)
        self._file.write_at(counts + within * _COUNT, _ONCE * count)
        return self._longer(count) | _ONLY_HERE, count

    def _longer(self, count: int) -> int:
        """Make the file so many clusters longer: where the first of them lies."""
        start = self._end
        self._file.truncate(start + count * self._cluster)
        self._end = start + count * self._cluster
        return start

    def _entries(self, where: int, count: int) -> list[int]:
        return list(struct.unpack(f">{count}Q", self._file.read_whole(where, count * _ENTRY)))

    def _enter(self, where: int, entries: list[int]) -> None:
        self._file.write_at(where, struct.pack(f">{len(entries)}Q", *entries))


def _joined(places: list[Place]) -> Iterator[Place]:
    """The same places, each as long as it lies in one piece."""
    for _, parts in groupby(places, lambda place: place.at and place.at - place.offset):
        first, *more = parts
        yield first._replace(length=sum((part.length for part in more), first.length))
