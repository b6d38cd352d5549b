"""What files are in an image or archive, and what they hold: `files` and `extract`.

Nothing is mounted and no tool is started (filesystems/reading). Of an archive only those chunks are
decompressed in which something lies that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from virtstore import formats
from virtstore.agent.container import what_is
from virtstore.agent.context import Agent, stored
from virtstore.agent.evidence import Scan
from virtstore.agent.operations.archive_contents import look_into
from virtstore.agent.operations.cut_checks import device_of
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.errors import Corrupt, Error, NotFound, Unsupported
from virtstore.filesystems.detect import Contents, detect
from virtstore.filesystems.reading import tree
from virtstore.filesystems.reading.base import Disk, Node, Reader, Window, soundness
from virtstore.filesystems.reading.choosing import Chosen, choose
from virtstore.filesystems.reading.registry import open_reader
from virtstore.filesystems.reading.tree import Found
from virtstore.formats.seekable import SeekableArchive, Unpacked
from virtstore.protocol import (
    FileBroken,
    FilePart,
    FilesEnd,
    FilesTold,
    FileTold,
    ListFiles,
    ReadFiles,
)
from virtstore.text import meant

#: Files in one message: a path has 4 KiB at most, and so has a link's target.
_IN_ONE_MESSAGE: Final = 64
#: What is read at once of an archive: a chunk, as it has to be decompressed anyway.
_CHUNKS_KEPT: Final = 48
_LATEST: Final = 253402300799  # the last second of the year 9999


class _Inside(NamedTuple):
    reader: Reader
    chosen: Chosen
    notes: tuple[str, ...]

    def at(self, path: bytes) -> tuple[bytes, Node]:
        """The path of what is meant, which may be typed as it is shown, and what is there."""
        try:
            return path, tree.look_up(self.reader, path)
        except NotFound:
            if (unescaped := meant(path)) == path:
                raise
            return unescaped, tree.look_up(self.reader, unescaped)

    def end(self) -> FilesEnd:
        notes = (*self.chosen.notes, *self.reader.notes, *self.notes)
        found = self.chosen.place
        return FilesEnd(self.chosen.type, found.number, found.volume, notes)


def list_files(agent: Agent, request: ListFiles) -> FilesEnd:
    with _opened(agent, request) as inside:
        path, node = inside.at(request.inside)
        batch: list[FileTold] = []
        for found in _listed(agent, inside.reader, path, node, recursive=request.recursive):
            batch.append(_told(inside.reader, found, found.path))
            if len(batch) == _IN_ONE_MESSAGE:
                agent.session.send(FilesTold(tuple(batch)))
                batch.clear()
        agent.session.send(FilesTold(tuple(batch)))
        return inside.end()


def _listed(
    agent: Agent, reader: Reader, path: bytes, node: Node, *, recursive: bool
) -> Iterator[Found]:
    path = b"/" + path.strip(b"/")
    if node.kind != "directory":
        return iter([Found(path, node)])
    if recursive:
        return tree.below(reader, path, node, agent.session.check)
    return tree.listed(reader, path, node)


def read_files(agent: Agent, request: ReadFiles) -> FilesEnd:
    with _opened(agent, request) as inside:
        agent.session.stage("copying")
        # All are looked up before any is sent: a wrong path among them leaves nothing behind.
        for path, node in [inside.at(path) for path in request.inside]:
            for found, name in _tree(agent, inside.reader, path, node):
                agent.session.send(_told(inside.reader, found, name))
                if found.node and found.node.kind == "file" and request.contents:
                    _send(agent, inside.reader, found.node)
        return inside.end()


def _tree(agent: Agent, reader: Reader, path: bytes, node: Node) -> Iterator[tuple[Found, bytes]]:
    """What is at a path and, of a directory, all below; each with its path from where that is."""
    name = path.rstrip(b"/").rpartition(b"/")[2]
    name = b"" if name in (b".", b"..") else name
    yield Found(path, node), name
    if node.kind == "directory":
        for found in tree.below(reader, b"/", node, agent.session.check):
            yield found, (name + found.path).strip(b"/")


def _send(agent: Agent, reader: Reader, node: Node) -> None:
    try:
        with soundness():
            for offset, data in reader.pieces(node):
                agent.session.check()
                agent.session.send(FilePart(offset), data)
    except (Corrupt, Unsupported) as error:
        agent.session.send(FileBroken(error.message))


def _told(reader: Reader, found: Found, path: bytes) -> FileTold:
    node = found.node
    if node is None:
        return FileTold(path, "other", trouble=found.trouble)
    seconds = (node.modified or 0) // 10**9
    modified = seconds if 0 < seconds <= _LATEST else 0
    try:
        with soundness():
            target = reader.target(node) if node.kind == "symlink" else b""
    except Error as error:
        return FileTold(path, "other", trouble=error.message)
    return FileTold(path, node.kind, node.size if node.kind == "file" else 0, modified, target)


@contextmanager
def _opened(agent: Agent, request: ListFiles | ReadFiles) -> Iterator[_Inside]:
    with agent.locked(request.path, "read", shared=True) as place:
        stored(place)
        with place.store.open(place.name) as image:
            disk, contents, kept = _disk_in(place, image)
            chosen = choose(contents, disk, request.partition, request.volume, kept)
            found = chosen.place
            window = Window(found.disk, found.start, found.size, **kept)
            yield _Inside(open_reader(chosen.type, window), chosen, _in_use(image))


def _in_use(image: Image) -> tuple[str, ...]:
    users = Scan().of(image).users
    if not users:
        return ()
    told = ", ".join(sorted(use.detail for use in users))
    return (
        f"somebody uses the image ({told}): what it is changing is seen as it was, or half changed;"
        " look into a snapshot or a backup instead",
    )


def _disk_in(place: Place, image: Image) -> tuple[Disk, Contents, dict[str, int]]:
    """The bytes of the disk that is in an image or archive, what is on it, and how much of it is to
    be read at once. Raises `Unsupported`."""
    found, foreign = what_is(place, image)
    if found is not None:
        archive = SeekableArchive.open(image) if found.name == "zstd" else None
        if archive is None:
            raise Unsupported(
                f"it is a {found.name} archive, which can be read from start to end only; copy it"
                f" with 'virtstore copy' to an image, or to an archive of virtstore's own"
                " (--archive), and look into that"
            )
        return Unpacked(archive), look_into(image), {"block": 1 << 20, "most": _CHUNKS_KEPT}
    if foreign is not None:
        raise Unsupported(
            f"it is {foreign.kind.what}, in which virtstore reads no files; 'virtstore info' tells"
            " what it is"
        )
    if not (place.store.capabilities.always_raw or image.container):
        formats.refuse_broken_promise(place.name)
    with device_of(image) as device:
        return image, detect(device), {}
