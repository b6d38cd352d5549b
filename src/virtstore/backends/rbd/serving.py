"""An RBD image as QEMU's storage daemon serves it (exporter.py).

Zeros are written as such, and only where there is data: QEMU makes "no data" of whole runs of them
(`detect-zeroes`). To punch a hole by FUSE says that it did, and leaves what lies in a part of an
object; to zero a range that way fills the cluster with zeros.

Sources: QEMU's QMP reference, BlockdevOptionsRbd; librbd's `rbd_skip_partial_discard`. Host tools
needed: qemu-storage-daemon, and QEMU's driver for RBD (Debian: qemu-block-extra).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from virtstore.backends.base import NO_CACHE, Identity, PageCache, Version
from virtstore.backends.descriptor import DescriptorImage, extents_of, read_from
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.connection import CONF, reaches
from virtstore.backends.rbd.report import Snapshot
from virtstore.backends.rbd.stalls import Lookout
from virtstore.backends.read_ahead import ReadAhead
from virtstore.errors import Corrupt, Error, InUse, Unsupported
from virtstore.exporter import DISK, Export, Node
from virtstore.model import Extent


class Served(DescriptorImage):
    """The file that a daemon serves of an image. `lookout`: of one that may be written."""

    def __init__(self, export: Export, lookout: Lookout | None) -> None:
        super().__init__(export.fd)
        self.export = export
        self.lookout = lookout
        self._ahead = None if lookout else ReadAhead(self.size, self._read)
        if lookout:
            lookout.begin(export.child)

    @contextmanager
    def minded(self) -> Iterator[None]:
        """What is written within the block is looked after."""
        with self.lookout.minded() if self.lookout else nullcontext():
            yield

    @property
    def full(self) -> str:
        """Why its daemon was ended, if it was: it shows among the watchers for a while yet."""
        return self.lookout.full if self.lookout else ""

    @property
    def identity(self) -> Identity:
        return 0, 0

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def cache(self) -> PageCache:
        return self._ahead or NO_CACHE

    def expect(self, extents: Iterable[Extent]) -> None:
        """Where there is data: only that is read ahead."""
        if self._ahead:
            self._ahead.expect(extents)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._ahead.read(offset, length) if self._ahead else self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        return read_from(self.export.direct, offset, length)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.export.write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        end = offset + length
        for extent in extents_of(self._fd):
            start, stop = max(extent.offset, offset), min(extent.end, end)
            if extent.kind == "data" and start < stop:
                self._write_zeros(start, stop - start)

    def close(self) -> None:
        if self._ahead:  # nothing may be read by a descriptor's number once that is another's
            self._ahead.close()
        self.export.close()
        if self.lookout:
            self.lookout.close()


def serve(
    cluster: Cluster,
    disk: str,
    snapshot: Snapshot | None = None,
    look: Callable[[], None] = lambda: None,
    *,
    writable: bool = False,
) -> Served:
    """The image that is called `disk`, or its snapshot, served. `look` is called each second until
    then, and may raise. Raises as `exporter.Export`, in Ceph's words."""
    way = reaches(cluster)

    def waits(seconds: float) -> None:
        look()
        way.look(seconds)

    nodes = [_node(cluster, disk, snapshot, writable=writable)]
    # Before the image is open: see stalls.py.
    lookout = Lookout(cluster) if writable else None
    try:
        export = Export(nodes, writable=writable, reaches=way._replace(look=waits))
    except Error as error:
        if lookout:
            lookout.close()
        raise (_refusal(cluster, error) if isinstance(error, Corrupt) else error) from None
    return Served(export, lookout)


#: What QEMU says without the module that has its driver.
_NO_DRIVER: Final = "nknown driver"


def _node(cluster: Cluster, image: str, snapshot: Snapshot | None, *, writable: bool) -> Node:
    """QEMU's node for an image. What is zeroed is given back to the cluster."""
    return {
        "driver": "rbd",
        "node-name": DISK,
        "pool": cluster.pool,
        **({"namespace": cluster.namespace} if cluster.namespace else {}),
        "image": image,
        **({"snapshot": snapshot.name} if snapshot else {}),
        "user": cluster.user,
        "conf": CONF,
        "read-only": not writable,
        "discard": "unmap",
        "detect-zeroes": "unmap" if writable else "off",
    }


def _refusal(cluster: Cluster, error: Corrupt) -> Error:
    """The error for what QEMU does not open."""
    said = error.message
    if _NO_DRIVER in said:
        return Unsupported(
            f"QEMU has no driver for RBD on this host (Debian: qemu-block-extra): {said}"
        )
    for words, number in _SAID.items():
        if words in said:
            return cluster.explained(said, number, said)
    if isinstance(error, InUse):
        return error
    return Error(said)


#: What QEMU says of errno(3)'s numbers.
_SAID: Final = {
    "No such file": 2,
    "not permitted": 1,
    "Permission denied": 13,
    "timed out": 110,
    "No space left": 28,
}
