"""An image or an archive of ours as something to be read at any offset, for those who do not read
all of it: where it is zeros for certain, and the bytes of a range.

Of an archive the frames that were decompressed last are kept, as who reads a file system comes
back to the same ones. Nothing here grows with the image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from virtstore.backends.base import Readable
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.formats.seekable import SeekableArchive
from virtstore.model import Extent

#: Frames that are kept, of 1 MiB each: readers are a few at a time, each somewhere else.
_KEPT: Final = 16
#: Extents that are kept: who asks for one at a time comes back to what it was told already.
_SEEN: Final = 4096
#: A frame of a whole chunk that is stored in fewer bytes may be zeros.
_SMALL: Final = 256


class Contents(Protocol):
    """An image that is read at any offset, by one thread."""

    @property
    def size(self) -> int:
        """Bytes of the image."""
        ...

    def read(self, offset: int, length: int) -> bytes | None:
        """`length` bytes, all within the image; None where the range is zeros for certain. Raises
        `Corrupt`, and `OSError` for what cannot be read."""
        ...

    def extents(self, start: int) -> Iterator[Extent]:
        """The extents from the one that `start` lies in, in order and without gaps, as
        `Readable.extents` has them. Raises as `read` does."""
        ...


class RawContents:
    """A raw image."""

    def __init__(self, image: Readable) -> None:
        self._image = image
        self.size = image.size

    def read(self, offset: int, length: int) -> bytes | None:
        """See `Contents`."""
        return self._image.read_whole(offset, length)

    def extents(self, start: int) -> Iterator[Extent]:
        """See `Contents`."""
        return (each for each in self._image.extents() if each.end > start)


class ArchiveContents:
    """The image in an archive of ours."""

    def __init__(self, archive: SeekableArchive) -> None:
        self._archive = archive
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()
        self.size = archive.size

    def read(self, offset: int, length: int) -> bytes | None:
        """See `Contents`."""
        parts: list[tuple[bytes | None, int]] = []
        end = offset + length
        while offset < end:
            index = self._archive.frames.find(offset)
            frame = self._archive.frames[index]
            stop = min(end, frame.end)
            data = self._frame(index)
            begin = offset - frame.offset
            parts.append((None if data is None else data[begin:][: stop - offset], stop - offset))
            offset = stop
        if all(data is None for data, _ in parts):
            return None
        return b"".join(bytes(count) if data is None else data for data, count in parts)

    def extents(self, start: int) -> Iterator[Extent]:
        """See `Contents`."""
        frames = self._archive.frames
        for index in range(frames.find(start), len(frames)):
            frame = frames[index]
            small = frame.stored < _SMALL or frame.length > CHUNK
            zero = small and self._frame(index) is None
            yield Extent(frame.offset, frame.length, "zero" if zero else "data")

    def _frame(self, index: int) -> bytes | None:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        data = self._archive.contents(index)
        self._kept[index] = data
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data


class Zeros:
    """Where an image is zeros for certain. Asked for one range behind the other, as clients do, it
    looks for each extent once; who goes further back than a few thousand has it begin anew."""

    def __init__(self, size: int, extents: Callable[[int], Iterator[Extent]]) -> None:
        self._size = size
        self._begin = extents
        self._found: Iterator[Extent] = iter(())
        self._seen: list[Extent] = []

    def runs(self, offset: int, length: int, most: int) -> list[tuple[int, bool]]:
        """The beginning of a range, which is not empty, as runs of different kinds that follow one
        another: so many bytes each, and whether they are zeros. There are at most `most`."""
        runs: list[tuple[int, bool]] = []
        end = offset + length
        try:
            for extent in self._from(offset):
                count, zero = min(extent.end, end) - offset, extent.kind == "zero"
                if runs and runs[-1][1] == zero:
                    count += runs.pop()[0]
                elif len(runs) == most:
                    break
                runs.append((count, zero))
                offset = min(extent.end, end)
                if offset == end:
                    break
        except (Corrupt, OSError):  # who reads it is told why
            self._seen.clear()
        return runs or [(end - offset, False)]

    def _from(self, offset: int) -> Iterator[Extent]:
        """The extents from the one that a byte lies in."""
        if not self._seen or offset < self._seen[0].offset:
            self._found = self._begin(offset)
            self._seen.clear()
        first = bisect_right(self._seen, offset, key=lambda each: each.end)
        yield from self._seen[first:]
        for extent in self._found:
            self._seen.append(extent)
            if len(self._seen) > 2 * _SEEN:
                del self._seen[:_SEEN]
            if extent.end > offset:
                yield extent
