"""An archive of ours as what a copy reads: frame by frame, as they are stored or decompressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Final

from virtstore import formats
from virtstore.digest import CHUNK, ZEROS
from virtstore.formats.foreign import Foreign
from virtstore.formats.seek_table import Frame
from virtstore.formats.seekable import SeekableArchive, Unpacked
from virtstore.model import Compression, Origin
from virtstore.transfer.page_cache import Reading
from virtstore.transfer.pieces import Piece, Source

#: A frame of a whole chunk that is stored in fewer bytes may be zeros.
_SMALL: Final = 256


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
