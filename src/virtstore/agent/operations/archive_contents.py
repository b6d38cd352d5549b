"""What is in an archive's image, found by decompressing only the blocks that tell.

The blocks go into a file in memory, as long as the image and otherwise hole, and that is
looked at like any image. First the partition table is read, which asks for its sectors as it
goes; then each partition gets its beginning and its end. How many blocks that may come to is
bounded, whatever a table says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, Error
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents, detect
from virtstore.filesystems.partitions.change import read_table
from virtstore.formats import foreign
from virtstore.formats.base import ArchiveSource, Format
from virtstore.formats.foreign import Ends, Foreign
from virtstore.formats.seekable import SeekableArchive, Unpacked
from virtstore.model import Partition

#: Blocks of 1 MiB that are decompressed, and kept in memory.
MOST_BLOCKS: Final = 96
_MOST_PARTITIONS: Final = 32


class _Blocks:
    """Decompresses blocks of an archive's image into the memory file `fd`, each once."""

    def __init__(self, archive: SeekableArchive, fd: int) -> None:
        self._archive = archive
        self._fd = fd
        self._there: set[int] = set()

    def fetch(self, offset: int, length: int) -> None:
        """Have a range in the memory file. Raises `Corrupt` for a damaged block, and where more
        than `MOST_BLOCKS` would be decompressed."""
        offset, end = max(offset, 0), min(offset + length, self._archive.size)
        while offset < end:
            index = self._archive.frames.find(offset)
            self._fetch_frame(index)
            offset = self._archive.frames[index].end

    def _fetch_frame(self, index: int) -> None:
        if index in self._there:
            return
        if len(self._there) >= MOST_BLOCKS:
            raise Corrupt(f"its partition table asks for more than {MOST_BLOCKS} blocks")
        self._there.add(index)
        contents = self._archive.contents(index)
        if contents is not None:  # zeros are a hole already
            os.pwrite(self._fd, contents, self._archive.frames[index].offset)


class _Fetching(Device, frozen=True, kw_only=True):
    """The memory file as a device; each block is fetched before it is read."""

    blocks: _Blocks

    def read(self, offset: int, length: int) -> bytes:
        self.blocks.fetch(offset, length)
        return super().read(offset, length)


def look_into(source: ArchiveSource) -> Contents:
    """What is in the image of an archive; nothing where its format cannot be read at random.
    Nothing that the archive contains makes it raise."""
    fd = os.memfd_create("archived")
    try:
        archive = SeekableArchive.open(source)
        if archive is None or archive.size == 0:
            return Contents()
        os.ftruncate(fd, archive.size)
        _fetch_what_tells(archive, _Blocks(archive, fd), fd)
        return detect(Device(fd, archive.size))
    except Error as error:
        return Contents(warnings=(f"its contents were not looked at: {error.message}",))
    finally:
        os.close(fd)


def foreign_in(source: ArchiveSource, form: Format) -> Foreign | None:
    """The foreign thing that an archive's image is, if it is one. Of a format that cannot be read
    at random only the beginning is looked at. Damage does not make it raise."""
    with suppress(Error):
        archive = SeekableArchive.open(source) if form.name == "zstd" else None
        if archive:
            return None if archive.raw else foreign.detect(Unpacked(archive))
        head = foreign.first_of(form.read(source))
        return foreign.detect(Ends(head))
    return None


def _fetch_what_tells(archive: SeekableArchive, blocks: _Blocks, fd: int) -> None:
    blocks.fetch(0, CHUNK)
    blocks.fetch(archive.size - CHUNK, CHUNK)
    for each in _partitions(_Fetching(fd, archive.size, blocks=blocks)):
        blocks.fetch(each.start, 1)
        blocks.fetch(each.start + each.size - 1, 1)


def _partitions(device: Device) -> Iterator[Partition]:
    try:
        yield from read_table(device).partitions[:_MOST_PARTITIONS]
    except Corrupt:  # no table, or one that detection complains of
        return
