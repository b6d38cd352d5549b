"""Clusters of a qcow2 that was just made, and new ones behind what is there, where QEMU would put
them.

QEMU's storage daemon is sent one request of 128 KiB after the other (exporter.py), which takes
three times as long as to write the same bytes to a plain file. `qemu-img` made the file, and so
decided all that the header says; and it checks the file once it is written. What anybody else has
written to is changed by QEMU alone.

A kill between two of these writes leaves what it leaves of QEMU's: clusters that nobody uses. For
that a cluster is counted first, and then entered in the table by which the disk is read.

Source: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import errno
import operator
import os
import struct
import threading
from collections.abc import Iterator
from itertools import takewhile
from typing import Final

from virtstore.backends.files.clusters import ENTRY, ONLY_HERE, Clusters, Place, has_plain
from virtstore.backends.files.file import FileImage
from virtstore.formats.disks.qcow2_header import read_header

#: Bytes of a reference count, and in the header's words: 2^4 bits.
_COUNT: Final = 2
_COUNT_ORDER: Final = 4
_ONCE: Final = b"\0\1"
#: Bytes of a disk, for which the table of counts that `qemu-img create` makes is long enough.
_LARGEST: Final = 8 << 40


def fits(file: FileImage) -> bool:
    """Whether a qcow2 that was just made is one of those that are written here."""
    header = read_header(file)
    known = header.version == 3 and header.refcount_order == _COUNT_ORDER
    return known and has_plain(file) and not header.snapshots and header.size <= _LARGEST


class NewClusters(Clusters):
    """Those of the qcow2 `file`, which `fits`. Any thread may use them."""

    def __init__(self, file: FileImage) -> None:
        super().__init__(file)
        self._lock = threading.Lock()
        self._end = file.size + -file.size % self._cluster

    def allocated(self, offset: int, length: int) -> Iterator[Place]:
        """The same as `places`; all of it lies somewhere from then on. What is new there reads as
        zeros."""
        if offset + length <= self.size and length:
            with self._lock:
                self._allocate(offset // self._cluster, -(-(offset + length) // self._cluster))
        return self.places(offset, length)

    def _allocate(self, first: int, end: int) -> None:
        per_table = self._cluster // ENTRY
        while first < end:
            stop = min(end, first - first % per_table + per_table)
            table = self._table(first) or self._new_table(first)
            self._fill(self._where(table, first), stop - first)
            first = stop

    def _new_table(self, cluster: int) -> int:
        at, _ = self._new(1)
        self._enter(self._where_of_table(cluster), [at | ONLY_HERE])
        return at

    def _fill(self, where: int, count: int) -> None:
        """Give each of some entries a cluster that has none."""
        entries, number = self._entries(where, count), 0
        while number < count:
            lacking = len(list(takewhile(operator.not_, entries[number:])))
            if not lacking:
                number += 1
                continue
            at, made = self._new(lacking)
            new = [(at + n * self._cluster) | ONLY_HERE for n in range(made)]
            self._enter(where + number * ENTRY, new)
            number += made

    def _new(self, wanted: int) -> tuple[int, int]:
        """New clusters, which read as zeros: where the first lies, and how many there are."""
        per_block = self._cluster // _COUNT
        block, within = divmod(self._end // self._cluster, per_block)
        if block >= self._header.refcounts_clusters * self._cluster // ENTRY:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        where = self._header.refcounts_offset + block * ENTRY
        (counts,) = self._entries(where, 1)
        if not counts:  # they count their own cluster as well
            counts = self._longer(1)
            self._file.write_at(counts + within * _COUNT, _ONCE)
            self._enter(where, [counts])
            within += 1
        count = min(wanted, per_block - within)
        self._file.write_at(counts + within * _COUNT, _ONCE * count)
        return self._longer(count), count

    def _longer(self, count: int) -> int:
        """Make the file so many clusters longer: where the first of them lies."""
        start = self._end
        self._file.truncate(start + count * self._cluster)
        self._end = start + count * self._cluster
        return start

    def _enter(self, where: int, entries: list[int]) -> None:
        self._file.write_at(where, struct.pack(f">{len(entries)}Q", *entries))
