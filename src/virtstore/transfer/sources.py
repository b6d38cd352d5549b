"""What a copy reads: a raw image, an archive of ours, or any other archive, as one thing.

Each is a size and a sequence of pieces in the image's order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from functools import cached_property, partial
from typing import Final

from virtstore import formats, names
from virtstore.backends.base import Readable
from virtstore.backends.version import settled, touched, written
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, InUse
from virtstore.formats import Recognised
from virtstore.formats.base import Format, Trailing
from virtstore.formats.foreign import Ends, Foreign, first_of
from virtstore.formats.seekable import SeekableArchive
from virtstore.model import Compression, Extent
from virtstore.transfer.frame_source import FrameSource
from virtstore.transfer.page_cache import Reading, ReadThrough
from virtstore.transfer.pieces import Piece, Source
from virtstore.transfer.plan import steps

#: Bytes that are read to find out what it is.
_HEAD: Final = 256
#: What is kept of an archive's end while it is read through: the footer of a container.
_FOOT: Final = 512


def open_source(
    image: Readable,
    recognise: Callable[[Readable], Recognised] = formats.recognise,
    *,
    name: str = "",
    steady: bool = False,
    raw: bool = False,
) -> Source:
    """What `image` holds, of which `recognise` says what it is.

    Where `name` promises an archive, or anything else that is
    no image, and the contents are none, raises `Corrupt`: what has a damaged beginning is not to
    pass for an image. `steady`: raise where somebody writes to a raw image while it is read.
    `raw`: take the bytes for a raw disk's, whatever foreign thing they look like, also within an
    archive.
    """
    if image.size == 0:
        # Taken for an image, it would zero whatever it was copied onto.
        raise Corrupt("it is empty: it was cut to nothing, or never written")
    reading = Reading(image)
    reading.next(0, _HEAD)
    found, holds = recognise(image)
    if found is None:
        if not raw and not holds:
            formats.refuse_broken_promise(name)
        holds = None if raw else holds
        return RawSource(image, image.size, reading, steady=steady, holds=holds)
    archive = SeekableArchive.open(image) if found.name == "zstd" else None
    source: Source = (
        FrameSource(archive, reading, raw=raw)
        if archive
        else StreamSource(
            found, image, reading, raw=raw, padded=names.archive_format(name) == found.name
        )
    )
    if source.size == 0:
        raise Corrupt("it is an archive of nothing: what was to be in it was never written")
    return source


class RawSource:
    """The first `size` bytes of a raw `image`."""

    compression: Compression | None = None
    digest: str | None = None

    def __init__(
        self,
        image: Readable,
        size: int,
        reading: Reading | None = None,
        *,
        steady: bool = False,
        holds: Foreign | None = None,
    ) -> None:
        self.holds = holds
        self.image = image
        self._reading = reading or Reading(image)
        self._version = settled(image) if steady else None
        self.size = size

    def check(self) -> None:
        self._reading.end()
        self.image.check()
        if self._version and (seen := written(self._version, self.image.version)):
            raise InUse(
                f"somebody wrote to it while it was being read ({seen}): what was read is neither"
                " what it was nor what it is; --snapshot copies it as it is at one moment,"
                " --allow-in-use copies it while it changes"
            )

    def again(self) -> Source | None:
        if self._version is None or not touched(self._version, self.image.version):
            return None
        return RawSource(self.image, self.size, steady=True)

    def pieces(self) -> Iterator[Piece]:
        for step in steps(_first(self.image.extents(), self.size), self.size):
            where = step.offset, step.length
            if step.kind == "zero":
                yield Piece(*where)
            else:
                read = partial(self.image.read_whole, *where)
                yield Piece(*where, read, announce=partial(self._reading.next, *where))


class StreamSource:
    """Any other archive, decompressed from start to end by one thread. Where its format does not
    say how long the image is, it is read through once to find out.

    `padded`: zeros may follow the archive, as they may where the file is called an archive. A raw
    disk that begins with an archive, and is zeros behind that, is not taken for the archive."""

    digest: str | None = None

    def __init__(
        self,
        form: Format,
        image: Readable,
        reading: Reading,
        *,
        raw: bool = False,
        padded: bool = False,
    ) -> None:
        self._padded = padded
        self._format = form
        self._image = image
        self._reading = reading
        self._raw = raw
        self._foot = b""
        self.compression: Compression | None = form.name
        known: int | None = None
        with suppress(Trailing):  # to be met again, by who reads
            known = form.image_size(image)
        self.size = self._read_through() if known is None else known
        self._reading.end()

    @cached_property
    def holds(self) -> Foreign | None:
        """See `Source`. The first bytes tell, and the last if the archive was read through."""
        if self._raw:
            return None
        with closing(self._contents()) as contents:
            head = first_of(contents)
        return formats.foreign.detect(Ends(head, self._foot, self.size))

    def _read_through(self) -> int:
        size = 0
        for piece in self._contents():
            size += len(piece)
            self._foot = (self._foot + piece)[-_FOOT:] if len(piece) < _FOOT else piece[-_FOOT:]
        return size

    def check(self) -> None:
        self._reading.end()  # archives are files: nothing can be lost

    def again(self) -> Source | None:
        return None  # its checksums tell

    def pieces(self) -> Iterator[Piece]:
        offset = 0
        for chunk in _chunks(self._contents()):
            if offset + len(chunk) > self.size:
                raise Corrupt(f"the archive holds more than the {self.size} bytes that it declares")
            yield Piece(offset, len(chunk), read=partial(bytes, chunk))
            offset += len(chunk)
        if offset != self.size:
            raise Corrupt(f"the archive declares {self.size} bytes and holds {offset}")

    def _contents(self) -> Generator[bytes]:
        try:
            yield from self._format.read(ReadThrough(self._image, self._reading))
        except Trailing as error:
            if not (self._padded and error.padding):
                raise


def _first(extents: Iterator[Extent], size: int) -> Iterator[Extent]:
    """Those extents that begin within the first `size` bytes."""
    for extent in extents:
        if extent.offset >= size:
            return
        yield extent


def _chunks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in whole chunks (the last may be shorter)."""
    held: list[bytes] = []
    length = 0
    for part in parts:
        while length + len(part) >= CHUNK:
            head, part = part[: CHUNK - length], part[CHUNK - length :]
            yield b"".join([*held, head])
            held, length = [], 0
        if part:
            held.append(part)
            length += len(part)
    if held:
        yield b"".join(held)
