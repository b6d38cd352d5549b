"""An open RBD image, or a snapshot of one: what QEMU's storage daemon serves of it (serving.py).

The daemon is started when the first byte is asked for: who only wants to know who uses an image, or
how large it is, needs none. It shows among the image's watchers, as a guest does, even if it only
reads: QEMU opens an image always as one that may be written. So nobody removes what is read.

Source: rbd(8). Host tools needed: rbd, and those of serving.py.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from virtstore.backends.base import Identity, Image, PageCache, Version
from virtstore.backends.descriptor import extents_of
from virtstore.backends.rbd import report
from virtstore.backends.rbd.ahead import Ahead
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.connection import monitors
from virtstore.backends.rbd.images import Images
from virtstore.backends.rbd.report import Listed, Snapshot, Watcher
from virtstore.backends.rbd.serving import Served, serve
from virtstore.errors import Error, Interrupted, NoSpace, Unsupported
from virtstore.exporter import DAEMON, MEND
from virtstore.model import Extent
from virtstore.network_name import NetworkName


class Pool(Protocol):
    """What an open image needs of its pool (see pool.RbdPool)."""

    cluster: Cluster
    images: Images

    def identity_of(self, image: Listed, snapshot: Snapshot | None) -> Identity: ...

    def used(self, image: str, snapshot: str) -> int: ...

    def now(self, image: Listed) -> Listed | None: ...

    def count(self, image: Listed, *, opened: int = 0, served: int = 0) -> None: ...

    def watchers(self, image: Listed) -> tuple[Watcher, ...]: ...

    def publish(self, image: Listed, name: str, *, overwrite: bool) -> None: ...

    def hide(self, name: str) -> None: ...

    def show(self, name: str) -> None: ...

    def drop(self, image: str, snapshot: str) -> None: ...

    def note(self, name: str, note: str) -> bool: ...


class RbdImage(Image):
    """An image, or a snapshot of it, as the pool's listing has it."""

    def __init__(
        self,
        pool: Pool,
        image: Listed,
        snapshot: Snapshot | None = None,
        *,
        writable: bool = False,
    ) -> None:
        self._pool, self._image, self._snapshot = pool, image, snapshot
        self._writable = writable
        self._starting = threading.Lock()
        self._disk: Served | None = None
        self._begun: Ahead[None] | None = None
        self._asked: Ahead[tuple[Watcher, ...]] | None = None
        self._diff: Ahead[bytes] | None = None
        self._ending: Ahead[None] | None = None
        self._open = True
        self._failed: Error | None = None
        pool.count(image, opened=1)

    @property
    def size(self) -> int:
        if self._snapshot:
            return self._snapshot.size
        return (self._pool.now(self._image) or self._image).size

    @property
    def allocated(self) -> int:
        present = self._pool.now(self._image) or self._image
        return self._pool.used(present.name, self._snapshot.name if self._snapshot else "")

    @property
    def identity(self) -> Identity:
        return self._pool.identity_of(self._image, self._snapshot)

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def watchers(self) -> tuple[str, ...]:
        if self._snapshot:
            return ()  # nobody can write to that
        found = self._asked.result() if self._asked else self._look()
        self._asked = None
        if found and self._begun:  # one of them may be our daemon, of which we know once it serves
            self._begun.result()
            found = self._look()
        return tuple(each.detail for each in found)

    def _look(self) -> tuple[Watcher, ...]:
        """Who else has it open. Where its data is, is asked once nobody has."""
        found = self._pool.watchers(self._image)
        wanted = self._begun and not found and self.size
        self._diff = Ahead(self._ask_diff) if wanted else None
        return found

    @property
    def network(self) -> NetworkName:
        cluster, image = self._pool.cluster, self._pool.now(self._image) or self._image
        snapshot = f"@{self._snapshot.name}" if self._snapshot else ""
        name = "/".join(filter(None, (cluster.pool, cluster.namespace, image.name)))
        return NetworkName("rbd", name + snapshot, monitors(cluster))

    @property
    def keeps(self) -> tuple[int, ...]:
        return (self._served.export.keeps,)

    @property
    def cache(self) -> PageCache:
        return self._served.cache

    def extents(self) -> Iterator[Extent]:
        if self._writable:  # what is written now counts as well
            yield from extents_of(self._served.descriptor)
            return
        if not self.size:
            return  # `rbd diff --whole-object` crashes of that (Ceph 16)
        said = self._diff.result() if self._diff else self._ask_diff()
        self._diff = None
        if self._disk:
            self._disk.expect(report.extents(said, self.size))
        yield from report.extents(said, self.size)

    def _ask_diff(self) -> bytes:
        spec = ("--image", (self._pool.now(self._image) or self._image).name)
        snapshot = ("--snap", self._snapshot.name) if self._snapshot else ()
        words = ("diff", *spec, *snapshot, "--whole-object", *_JSON)
        return self._pool.cluster.ask(*words).stdout

    def announce(self) -> None:
        self._pool.images.ask_metadata((self._pool.now(self._image) or self._image).name)
        self._begun = Ahead(self._begin)
        if not self._snapshot:
            self._asked = Ahead(self._look)

    def _begin(self) -> None:
        with suppress(Error, OSError):  # whoever reads meets it, too
            _ = self._served

    def check(self) -> None:
        # That takes a while, but for a snapshot, of whose image it might be asked who has it open.
        if not (self._writable or self._snapshot) and self._disk and not self._disk.export.died:
            self._ending = Ahead(self._stop)

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(min(length, self.size - offset), 0)
        if not length:
            return b""
        with self._explaining():
            return self._reaching(offset + length).read_at(offset, length)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        served = self._reaching(offset + memoryview(data).nbytes)
        with self._explaining(), served.minded():
            served.write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        served = self._reaching(offset + length)
        with self._explaining(), served.minded():
            served.zero(offset, length)

    def flush(self) -> None:
        if self._writable and self._disk:
            with self._explaining(), self._disk.minded():
                self._disk.flush()

    @contextmanager
    def lend(self) -> Iterator[int]:
        served = self._served
        with self._explaining(), served.minded():
            yield served.descriptor

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """What Ceph does not allow within the block is said in its words: a system call has an
        error number only."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS):
                raise
            words = os.strerror(error.errno)
            raise self._pool.cluster.explained("", error.errno, words) from None

    def close(self) -> None:
        if self._open:
            self._open = False
            for each in (self._begun, self._ending):
                if each:
                    each.result()
            self._stop()
            self._pool.count(self._image, opened=-1)

    def __exit__(self, *raised: object) -> None:
        _, error, _ = raised
        if self._ending:  # else its daemon would go while we look at it
            self._ending.result()
        disk = self._disk
        died = disk is not None and disk.export.died
        full = disk.full if disk else ""
        self.close()
        if died and isinstance(error, (Error, OSError)) and not isinstance(error, Interrupted):
            if full:
                raise NoSpace(full)
            raise Error(f"QEMU's {DAEMON}, which served it, ended in the middle; {MEND}")

    @property
    def _served(self) -> Served:
        with self._starting:  # several threads read
            if self._disk is None:
                self._disk = self._start()
            return self._disk

    def _reaching(self, end: int) -> Served:
        """What is served, which has at least `end` bytes if the image has: a daemon does not see
        how another program makes it longer."""
        served = self._served
        if served.size < end <= self.size:
            self._stop()
            served = self._served
        return served

    def _start(self) -> Served:
        if self._failed:
            raise self._failed
        self._require_sectors()
        disk = (self._pool.now(self._image) or self._image).name
        try:
            served = serve(
                self._pool.cluster,
                disk,
                self._snapshot,
                self._refuse_closed,
                writable=self._writable,
            )
        except Error as error:
            self._failed = error
            raise
        self._pool.count(self._image, served=1)
        return served

    def _refuse_closed(self) -> None:
        """Raises where nobody needs what is being started any more."""
        if not self._open:
            raise Error("it was closed before it was served")

    def _require_sectors(self) -> None:
        """Raises `Unsupported` for a size of which QEMU makes whole sectors: its daemon ends where
        the last one is asked for, and its watch stays for half a minute."""
        if part := self.size % _SECTOR:
            raise Unsupported(
                f"it has {self.size} bytes, and QEMU serves none whose size is no multiple of"
                f" {_SECTOR}; 'rbd resize --size {self.size - part + _SECTOR}B"
                f" {self._pool.cluster.pool}/{self._image.name}' mends an image, but no snapshot"
            )

    def _stop(self) -> None:
        with self._starting:
            if self._disk is None:
                return
            self._disk.close()
            if not self._disk.full:
                self._pool.count(self._image, served=-1)
            ended, self._disk = self._disk.export.ended, None
            if self._writable and not ended:
                raise Error(f"QEMU's {DAEMON}, which wrote to it, does not end; it was left")


_JSON: Final = ("--format", "json")
#: Bytes that QEMU counts disks in.
_SECTOR: Final = 512
