"""A cut archive that has a base: what is in the draft comes first, the base has the rest."""

from __future__ import annotations

from collections.abc import Iterator

from virtstore.digest import CHUNK
from virtstore.formats.foreign import Foreign
from virtstore.formats.seekable import SeekableWriter
from virtstore.model import Compression
from virtstore.transfer.base_archive import BaseArchive
from virtstore.transfer.pieces import Piece, Source
from virtstore.transfer.resume_archive import PartialArchive


class PartialOverBase:
    """Both as one: the chunks of the draft up to where it was cut, and the base's from there on."""

    compression: Compression | None = "zstd"
    digest: str | None = None
    holds: Foreign | None = None

    def __init__(self, partial: PartialArchive, base: BaseArchive) -> None:
        self.size = partial.size
        self.sink = partial.sink
        base.sink = partial.sink
        self._partial = partial
        self._base = base
        self._cut = 0  # the chunk at which the base begins

    def check(self) -> None:
        self._partial.check()
        self._base.check()

    def again(self) -> Source | None:
        return None

    def pieces(self) -> Iterator[Piece]:
        end = 0
        for piece in self._partial.pieces():
            self._cut = -(-(piece.offset + piece.length) // CHUNK)
            end = piece.offset + piece.length
            yield piece
        for piece in self._base.pieces():
            if piece.offset + piece.length > end:
                begin = max(end, piece.offset)
                yield piece._replace(offset=begin, length=piece.offset + piece.length - begin)

    def put(self, chunk: int, length: int, digest: bytes, writer: SeekableWriter) -> None:
        (self._partial if chunk < self._cut else self._base).put(chunk, length, digest, writer)

    def forget(self, before: int) -> None:
        self._partial.forget(before)
