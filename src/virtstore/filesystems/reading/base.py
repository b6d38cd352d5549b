"""What reads the files of a file system: the contract that every reader keeps.

No reader writes, mounts or starts a program: it reads a file system's own structures off a disk, in
Python, so an image of any kind will do, an archive too. What a guest wrote is hostile. So a reader
believes no number: what lies outside the disk, or contradicts itself, is `Corrupt`, and everything
that could go in a circle has an end. What a reader does not know (a feature, a way of compressing)
it refuses by name, as what it would show could be wrong.

A journal is not replayed. What a running machine wrote last may be in its journal alone; a reader
that can tell so says it in `notes`.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import msgspec
import zstandard

from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.model import FileKind

#: Bytes of a link's target (PATH_MAX of Linux), and of a name.
MOST_TARGET: Final = 4096
#: What reading nonsense raises in Python, beside our own errors.
_NONSENSE: Final = (
    struct.error,
    zlib.error,
    zstandard.ZstdError,
    LookupError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
)


class Disk(Protocol):
    """The bytes of an image, raw, wherever they are."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes: ...


#: Where the description of a file is, in the numbers of its file system.
Place = tuple[int, ...]


class Node(msgspec.Struct, frozen=True):
    """A file, directory, link or other. `size` in bytes; `modified` in nanoseconds since 1970, None
    where that is not known."""

    place: Place
    kind: FileKind
    size: int
    modified: int | None = None


class Run(msgspec.Struct, frozen=True):
    """`length` bytes of a file from `offset`, which lie from byte `start` of the disk on."""

    offset: int
    length: int
    start: int


class Reader(Protocol):
    """Places that a reader is asked about are those that it gave."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know of how this file system is read."""
        ...

    @property
    def root(self) -> Place: ...

    def node(self, place: Place) -> Node: ...

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        """What is in a directory, without `.` and `..`, as it comes."""
        ...

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        """What a file holds: offsets, ascending, and at most a MiB each. The rest is zeros."""
        ...

    def target(self, node: Node) -> bytes:
        """Where a link leads."""
        ...


class Steps:
    """How many nodes of a tree on the disk may be looked at: those of the largest file or directory
    that makes sense, while a tree that leads back into itself has no end."""

    def __init__(self, most: int = 1 << 18) -> None:
        self._left = most

    def take(self) -> None:
        """Look at one more. Raises `Corrupt` where that is too many."""
        self._left -= 1
        if self._left < 0:
            raise Corrupt("a file or directory is described without end: it is damaged")


class Window:
    """`size` bytes of a disk from `start`, which are kept in memory as long as there is room: file
    systems are read in small parts that lie side by side. `block`: bytes that are read at once."""

    def __init__(
        self, disk: Disk, start: int, size: int, *, block: int = 1 << 16, most: int = 512
    ) -> None:
        self._disk = disk
        self._start = start
        self._block = block
        self._most = most
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self.size = min(size, disk.size - start)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises `Corrupt` where the file system ends before."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Corrupt(
                f"its file system tells of bytes {offset} to {offset + length}, and has"
                f" {self.size}: it is damaged, or the image was cut"
            )
        found = bytearray()
        while len(found) < length:
            at = offset + len(found)
            data, skipped = self._around(at), at % self._block
            if len(data) <= skipped:
                raise Corrupt(f"the image cannot be read at byte {self._start + at}")
            found += data[skipped : skipped + length - len(found)]
        return bytes(found)

    def _around(self, offset: int) -> bytes:
        index = offset // self._block
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        begin = index * self._block
        data = self._disk.read_at(self._start + begin, min(self._block, self.size - begin))
        self._kept[index] = data
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return data


def read_runs(disk: Window, runs: Iterable[Run], size: int) -> Iterator[tuple[int, bytes]]:
    """The pieces of a file of `size` bytes that lies in `runs`. Raises `Corrupt` where these do not
    ascend."""
    reached = 0
    for run in runs:
        if run.offset < reached:
            raise Corrupt("the parts of a file overlap, so its file system is damaged")
        reached = run.offset + run.length
        end = min(reached, size)
        for offset in range(run.offset, end, CHUNK):
            length = min(CHUNK, end - offset)
            yield offset, disk.read(run.start + offset - run.offset, length)


def whole(pieces: Iterable[tuple[int, bytes]], size: int, most: int) -> bytes:
    """All of a short file, its holes as zeros. Raises `Corrupt` for more than `most` bytes."""
    if size > most:
        raise Corrupt(f"its file system tells of {size} bytes where {most} are the most")
    found = bytearray(size)
    for offset, data in pieces:
        found[offset : offset + len(data)] = data
    return bytes(found[:size])


@contextmanager
def soundness() -> Iterator[None]:
    """Raise as `Corrupt` what reading nonsense raises."""
    try:
        yield
    except _NONSENSE as error:
        raise Corrupt(f"its file system is damaged ({type(error).__name__}: {error})") from error
