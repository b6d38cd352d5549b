"""The disk in a container (qcow2, VMDK, VDI, VHDX), open as an image, and as a draft.

What is read and written is the file that QEMU's storage daemon serves (exporter.py). What the image
*is* are the facts of the container's own file: identity, version, allocated space, marks, names.
Before the daemon gets the file, our own reader has looked at its header (`formats.disks`). What the
disk lies over is opened by us, too (chain.py).

Of a qcow2 that is only read, most is read where it lies in the file (clusters.py). Else reading
passes the page cache of the served file by; writing may not (exporter.py). What is read and written
of the container is in the cache as with any file, and leaves it after a copy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from heapq import nlargest
from typing import Final

import msgspec

from virtstore import linux
from virtstore.backends.base import Elsewhere, Holds, Identity, ImageDraft, PageCache, Version
from virtstore.backends.descriptor import DescriptorCache, DescriptorImage, extents_of, read_from
from virtstore.backends.files import chain, container_tools
from virtstore.backends.files.chain import Member, open_chain
from virtstore.backends.files.clusters import Clusters, NotPlain, Place, has_plain
from virtstore.backends.files.file import FileDraft, FileImage, ReworkedFile
from virtstore.backends.files.sparse import runs
from virtstore.errors import Error, Interrupted, InUse
from virtstore.exporter import DAEMON, DISK, MEND, Export, Node
from virtstore.formats import disks
from virtstore.model import ContainerFormat, Extent

#: Seconds that the daemon of an agent which was killed may take to let go of an image.
_LINGERING: Final = 1.0
#: Bytes of a container that the kernel is asked about at once, and parts of it that are let go of.
_LOOKED_AT: Final = 1 << 30
_MOST_RUNS: Final = 64


class ContainerImage(DescriptorImage):
    """The disk in the container `file`, which this owns: it closes that, also where the disk cannot
    be had, unless it was only `lent` until then. Raises `Corrupt`, `Unsupported` and `InUse`."""

    #: Whether clusters can be given back (`linux.punch_hole`).
    _discards = False

    def __init__(
        self,
        file: FileImage,
        form: ContainerFormat,
        elsewhere: Elsewhere,
        *,
        writable: bool = False,
        lent: bool = False,
    ) -> None:
        self._held = ExitStack()
        try:
            disk = disks.examine(file, form)
            self._members = open_chain(file, disk, elsewhere, self._held)
            if writable:
                container_tools.check(file.descriptor, mend_leaks=True)
            nodes = _nodes(file.descriptor, form, self._members, writable, self._discards)
            self._export = _exported(nodes, file, self._members, writable)
        except BaseException:
            self._held.close()
            if not lent:
                file.close()
            raise
        super().__init__(self._export.fd)
        self._file, self._form, self._writable = file, form, writable
        # A daemon that writes keeps what it has read of the tables, and changes that first.
        plain = form == "qcow2" and not writable and has_plain(file)
        self._clusters = Clusters(file) if plain else None

    @property
    def container(self) -> ContainerFormat | None:
        return self._form

    @property
    def size(self) -> int:
        # Another daemon may have changed it, which this one does not see.
        return super().size if self._writable else disks.examine(self._file, self._form).size

    @property
    def allocated(self) -> int:
        return self._file.allocated

    @property
    def identity(self) -> Identity:
        return self._file.identity

    @property
    def version(self) -> Version:
        beneath = tuple(member.file.version for member in self._members)
        return msgspec.structs.replace(self._file.version, beneath=beneath)

    @property
    def keeps(self) -> tuple[int, ...]:
        return (self._export.keeps,)

    @property
    def cache(self) -> PageCache:
        fd = self._file.descriptor
        return _WholeFile(fd) if self._writable else _FileBehind(fd)

    def extents(self) -> Iterator[Extent]:
        return extents_of(self._fd)

    def read_at(self, offset: int, length: int) -> bytes:
        if self._clusters and offset + length <= self._clusters.size:
            with suppress(NotPlain, OSError):  # what is wrong, the daemon knows
                return self._plain(self._clusters.places(offset, length))
        return read_from(self._export.direct, offset, length)

    def _plain(self, places: Iterator[Place]) -> bytes:
        return b"".join(
            bytes(length) if at is None else self._file.read_whole(at, length)
            for _, length, at in places
        )

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._export.write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        linux.zero_range(self._fd, offset, length)  # punching holes would answer, and not zero

    def truncate(self, size: int) -> None:
        """Make the disk `size` bytes long; what is new reads as zeros."""
        os.ftruncate(self._fd, size)

    def flush(self) -> None:
        if self._writable:
            super().flush()
        self._file.flush()
        for member in self._members:
            member.file.flush()

    def settle(self) -> None:
        """Flush, end the daemon, and check what it left. Nothing is read or written afterwards.
        Raises `Error` where the daemon goes on, which might write to what is published then."""
        if self._export.fd < 0:
            return
        self.flush()
        self._export.close()
        if not self._export.ended:
            raise Error(f"QEMU's {DAEMON}, which served its disk, does not end; the image was left")
        self._file.flush()
        container_tools.check(self._file.descriptor)

    def close(self) -> None:
        self._export.close()
        self._held.close()
        self._file.close()

    def __exit__(self, *raised: object) -> None:
        _, error, _ = raised
        died = self._export.died
        self.close()
        # What somebody made of that, a tool or we, says less.
        if died and isinstance(error, (Error, OSError)) and not isinstance(error, Interrupted):
            raise Error(f"QEMU's {DAEMON}, which served its disk, ended in the middle; {MEND}")


class _FileBehind(DescriptorCache):
    """The cache of a container that is read, which passes by that of its disk. Where in the file a
    range of the disk lies, only the daemon knows: so with any, all goes that was not cached when
    the first was announced."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._absent: list[tuple[int, int]] | None = None

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        if self._absent is None:
            found: list[tuple[int, int]] = []
            for start in range(0, os.lseek(self._fd, 0, os.SEEK_END), _LOOKED_AT):
                found += super().not_cached(start, _LOOKED_AT)
            self._absent = nlargest(_MOST_RUNS, found, key=lambda run: run[1])
        return [(offset, length)]

    def let_go(self, offset: int, length: int) -> None:
        for run in self._absent or ():
            super().let_go(*run)


class _WholeFile(DescriptorCache):
    """The cache of a container that is written. Where in it a range of its disk lies, only the
    daemon knows: so all of the file is meant."""

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        return []

    def let_go(self, offset: int, length: int) -> None:
        super().let_go(0, 0)

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        super().write_out(0, 0, wait=wait)


class ContainerDraft(ContainerImage, ImageDraft):
    """The disk in a container that is being made, as the daemon serves it (one in which nothing is
    yet: new_container.py); `file` is a qcow2 already. It can be published,
    but not written, once it is finished. Of what a copy that was cut left in it, maybe of another
    image, nothing stays in the file where zeros are now."""

    _discards = True

    def __init__(
        self, file: FileDraft, elsewhere: Elsewhere, *, holds: Holds, lent: bool = False
    ) -> None:
        super().__init__(file, "qcow2", elsewhere, writable=True, lent=lent)
        self.holds = holds
        self._draft = file
        self._size = super().size

    @property
    def size(self) -> int:
        return self._size

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        contents = data if isinstance(data, (bytes, bytearray)) else bytes(data)
        for start, end, empty in runs(contents, offset):
            if empty:  # such clusters take no room
                self._empty(offset + start, end - start)
            else:
                super().write_at(offset + start, memoryview(contents)[start:end])

    def zero(self, offset: int, length: int) -> None:
        self._empty(offset, length)

    def _empty(self, offset: int, length: int) -> None:
        if self._discards and self.holds == "kept":
            with suppress(OSError):  # whole clusters only, as far as it goes
                linux.punch_hole(self._fd, offset, length)
        super().zero(offset, length)

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self._draft.whole

    def note_losses(self, note: str) -> bool:
        return self._draft.note_losses(note)

    def finish(self) -> None:
        self.settle()
        self._draft.finish()

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        self._draft.publish(overwrite=overwrite, like=like)


class ReworkedContainer(ContainerDraft):
    """A container whose disk is changed in place."""

    _discards = False  # what was reserved stays so

    def __init__(self, file: ReworkedFile, elsewhere: Elsewhere) -> None:
        super().__init__(file, elsewhere, holds="kept")
        self._in_place = file.in_place

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._in_place.lose_name()
        super().write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self._in_place.lose_name()
        super().zero(offset, length)

    def finish(self) -> None:
        if self._in_place.named and self._export.fd >= 0:
            self._in_place.require_same()
        super().finish()

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if not self._in_place.named:
            self._draft.publish(overwrite=False)


def _exported(
    nodes: Sequence[Node], file: FileImage, members: Sequence[Member], writable: bool
) -> Export:
    fds = [file.descriptor, *(member.file.descriptor for member in members)]
    deadline = time.monotonic() + _LINGERING
    while True:
        try:
            return Export(nodes, pass_fds=fds, writable=writable)
        except InUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _nodes(
    fd: int, form: ContainerFormat, members: Sequence[Member], writable: bool, discards: bool
) -> list[Node]:
    """QEMU's nodes for the file and the disk in it, and what that lies over. Whoever only reads
    takes no lock that would keep a guest from starting, and none that would keep us from looking at
    a running one's."""
    access: Node = {"read-only": not writable, "force-share": not writable}
    how: Node = {**access, "discard": "unmap"} if discards else access
    file: Node = {"driver": "file", "filename": f"/proc/self/fd/{fd}", "node-name": "file", **how}
    under = chain.nodes(members)
    # With lazy ones its dirty bit would keep everybody from an image whose daemon was killed.
    qcow2: Node = {"lazy-refcounts": False, **chain.beneath(under)}
    special = qcow2 if form == "qcow2" else {}
    return [*under, file, {"driver": form, "file": "file", "node-name": DISK, **how, **special}]
