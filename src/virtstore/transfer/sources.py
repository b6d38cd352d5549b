"""What a copy reads: a raw image, an archive of ours, or any other archive, as one thing.

Each is a size and a sequence of *pieces* in the image's order. A piece is a run of zeros
or one chunk; its contents are read by whoever works on it, in any thread, and a piece of
an archive of ours can also be had as the very frame that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from functools import cached_property, partial
from typing import Final, NamedTuple, Protocol

from virtstore import formats, names
from virtstore.backends.base import Readable
from virtstore.backends.version import settled, touched, written
from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Corrupt, InUse
from virtstore.formats import Recognised
from virtstore.formats.base import Format, Trailing
from virtstore.formats.foreign import Ends, Foreign, first_of
from virtstore.formats.seek_table import Frame
from virtstore.formats.seekable import SeekableArchive, Unpacked
from virtstore.model import Compression, Extent, Origin
from virtstore.transfer.page_cache import Reading, ReadThrough
from virtstore.transfer.plan import steps

#: A frame of a whole chunk that is stored in fewer bytes may be zeros.
_SMALL: Final = 256
#: What is kept of an archive's end while it is read through: the footer of a container.
_FOOT: Final = 512


class Piece(NamedTuple):
    """A run of zeros, or one chunk. `read` gives its bytes; `frame` gives it as the zstd frame that
    an archive stores; `digest` gives its digest as an archive keeps it; `announce` is called before
    it is read. `check` holds the stored bytes of either against the checksum that an archive keeps
    of them. What has neither `read` nor `digest` is zeros."""

    offset: int
    length: int
    read: Callable[[], bytes] | None = None
    frame: Callable[[], bytes] | None = None
    announce: Callable[[], None] | None = None
    digest: Callable[[], bytes] | None = None
    check: Callable[[], object] | None = None

    @property
    def zeros(self) -> bool:
        return self.read is None and self.digest is None

    def contents(self) -> bytes:
        """The bytes of a chunk. Raises `Corrupt` where they are not to be had."""
        if self.read is None:
            raise Corrupt(f"the chunk at byte {self.offset} is not there to be read")
        return self.read()


class Source(Protocol):
    @property
    def size(self) -> int:
        """Bytes of the image."""
        ...

    @property
    def compression(self) -> Compression | None: ...

    @property
    def digest(self) -> str | None:
        """The image's digest as an archive records it: a claim, to be checked."""
        ...

    @property
    def holds(self) -> Foreign | None:
        """The foreign thing that the image's bytes are; None for a raw disk's."""
        ...

    def check(self) -> None:
        """Called once everything was read, or reading failed (see `backends.base.Readable.check`).
        Raises `InUse` where somebody is seen to have written to it meanwhile."""
        ...

    def again(self) -> Source | None:
        """The same image to be read once more, where only its contents can tell whether somebody
        wrote to it while it was read. None where nobody did. Called after `check`."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """The whole image, in order, each piece beginning on a chunk boundary. Raises
        `Corrupt` where an archive turns out not to hold what it says."""
        ...


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
    reading.next(0, _SMALL)
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


class FrameSource:
    """An archive of ours, whose frames can be sent as they are stored."""

    compression: Compression | None = "zstd"

    def __init__(self, archive: SeekableArchive, reading: Reading, *, raw: bool = False) -> None:
        self._archive = archive
        self._reading = reading
        self._raw = raw or archive.raw
        self.size = archive.size
        self.digest: str | None = archive.digest
        self.origin: Origin | None = archive.origin

    @cached_property
    def holds(self) -> Foreign | None:
        """See `Source`. It takes the decompression of a few frames."""
        return None if self._raw else formats.foreign.detect(Unpacked(self._archive))

    def check(self) -> None:
        self._reading.end()  # archives are files: nothing can be lost

    def again(self) -> Source | None:
        return None  # its checksums tell

    def pieces(self) -> Iterator[Piece]:
        for number, frame in enumerate(self._archive.frames):
            check = partial(self._archive.sealed, number) if self.sealed else None
            if self._is_zeros(number, frame):
                yield Piece(frame.offset, frame.length, check=check)
            else:
                yield self._chunk(number, frame)._replace(check=check)

    def strict_pieces(self) -> Iterator[Piece]:
        """The same, for who checks the whole archive: zeros are looked at as well, and reading a
        piece checks its seal."""
        for number, frame in enumerate(self._archive.frames):
            announce = partial(self._reading.next, frame.position, frame.stored)
            read = partial(self._archive.contents, number, strict=True)
            if frame.length > CHUNK:
                read()
                yield Piece(frame.offset, frame.length)
            else:
                yield Piece(frame.offset, frame.length, _whole(read, frame.length), None, announce)

    @property
    def sealed(self) -> bool:
        """Whether the archive keeps the digests of its chunks, and checksums of its frames."""
        return self._archive.seals is not None

    def _is_zeros(self, number: int, frame: Frame) -> bool:
        if self._archive.seals:
            return self._archive.seals[number].zeros
        # Zeros are a few bytes however many they stand for: looked at here and now.
        small = frame.stored < _SMALL or frame.length > CHUNK
        return small and self._archive.contents(number) is None

    def _chunk(self, number: int, frame: Frame) -> Piece:
        archive, seals = self._archive, self._archive.seals
        return Piece(
            frame.offset,
            frame.length,
            read=_whole(partial(archive.contents, number), frame.length),
            frame=lambda: archive.stored(number),
            announce=partial(self._reading.next, frame.position, frame.stored),
            digest=(lambda: seals[number].digest) if seals else None,
        )


def _whole(read: Callable[[], bytes | None], length: int) -> Callable[[], bytes]:
    """The same, with zeros as bytes."""
    return lambda: read() or ZEROS[:length]


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


def announced(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces, each announced just before it is given."""
    for piece in pieces:
        if piece.announce:
            piece.announce()
        yield piece


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
