"""Finding one's way in the files of an image: paths, links, listings.

Links are followed within the image only, as the guest would have followed them: an absolute one
from the image's own root. Names are bytes, as the guest wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Error, NotFound, Unsupported, UsageError
from virtstore.filesystems.reading.base import Node, Place, Reader, soundness
from virtstore.text import printable
from virtstore.units import MAX_SIZE

_MOST_LINKS: Final = 40
#: Directories within each other that are gone into, and entries of one: a hostile one has no end.
_DEEPEST: Final = 256
#: So many numbers of a place say which directory it is. What FAT has behind them may differ.
_IDENTITY: Final = 2
_MOST_ENTRIES: Final = 1 << 20


class Found(msgspec.Struct, frozen=True):
    """Something in an image: its path there, from `/` on, and what it is; why not, where that
    cannot be told."""

    path: bytes
    node: Node | None
    trouble: str = ""


def look_up(reader: Reader, path: bytes) -> Node:
    """What is at a path, links followed. Raises `NotFound`, which names the nearest that there is,
    `UsageError` for a path through a file, and `Corrupt`."""
    with soundness():
        return _Walk(reader, path).end()


def listed(reader: Reader, path: bytes, node: Node) -> Iterator[Found]:
    """What is in a directory, sorted by name. Raises `Corrupt` for one that is damaged as a
    whole."""
    with soundness():
        entries = sorted(dict(_entries(reader, node)).items())
    for name, place in entries:
        yield _found(reader, joined(path, name), place)


def below(
    reader: Reader,
    path: bytes,
    node: Node,
    check: Callable[[], None],
    seen: set[Place] | None = None,
    depth: int = 0,
) -> Iterator[Found]:
    """All that is below a directory, each directory before what is in it. `check` is called for
    each. What cannot be read is told, and the rest goes on. A directory has one place: one that
    was `seen` already is not gone into, or a damaged file system would have no end."""
    seen = set() if seen is None else seen
    if node.place[:_IDENTITY] in seen or depth > _DEEPEST:
        yield Found(path, None, "that directory is met a second time: the file system is damaged")
        return
    seen.add(node.place[:_IDENTITY])
    try:
        for each in listed(reader, path, node):
            check()
            yield each
            if each.node and each.node.kind == "directory":
                yield from below(reader, each.path, each.node, check, seen, depth + 1)
    except (Corrupt, Unsupported) as error:
        yield Found(path, None, error.message)


def joined(path: bytes, name: bytes) -> bytes:
    return path.rstrip(b"/") + b"/" + name


class _Walk:
    """One look-up. `path`: what was asked for."""

    def __init__(self, reader: Reader, path: bytes) -> None:
        self._reader, self._asked = reader, path
        self._trail = [reader.node(reader.root)]
        self._names: list[bytes] = []
        self._left = [name for name in path.split(b"/") if name not in (b"", b".")]
        self._links = 0

    def end(self) -> Node:
        while self._left:
            self._step(self._left.pop(0))
        return self._trail[-1]

    def _step(self, name: bytes) -> None:
        here = self._trail[-1]
        if name == b"..":
            if self._names:
                self._trail.pop()
                self._names.pop()
            return
        if here.kind != "directory":
            raise UsageError(f"{self._here()} in it is no directory, but a {here.kind}")
        place = dict(_entries(self._reader, here)).get(name)
        if place is None:
            raise NotFound(self._missing(name))
        node = _node(self._reader, place)
        if node.kind == "symlink":
            self._follow(node)
            return
        self._trail.append(node)
        self._names.append(name)

    def _follow(self, node: Node) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise UsageError(f"{printable(self._asked)} in it leads through links in a circle")
        target = self._reader.target(node)
        if target.startswith(b"/"):
            del self._trail[1:], self._names[:]
        self._left[:0] = [name for name in target.split(b"/") if name not in (b"", b".")]

    def _here(self) -> str:
        return printable(b"/" + b"/".join(self._names))

    def _missing(self, name: bytes) -> str:
        told = f"there is no {printable(name)} in {self._here()} of the image"
        asked = printable(self._asked)
        if self._links:
            told += f", where {asked} leads through links"
        return f"{told}; 'virtstore files' lists what there is"


def _entries(reader: Reader, node: Node) -> Iterator[tuple[bytes, Place]]:
    for count, (name, place) in enumerate(reader.entries(node), 1):
        if count > _MOST_ENTRIES:
            raise Corrupt(f"a directory has more than {_MOST_ENTRIES} entries")
        if name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name:
            yield name, place


def _found(reader: Reader, path: bytes, place: Place) -> Found:
    try:
        with soundness():
            return Found(path, _node(reader, place))
    except Error as error:
        return Found(path, None, error.message)


def _node(reader: Reader, place: Place) -> Node:
    node = reader.node(place)
    if not 0 <= node.size <= MAX_SIZE:
        raise Corrupt(f"it says that it has {node.size} bytes, which nothing can have")
    return node
