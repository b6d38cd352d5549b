"""A raw image of which it is known what has changed since its base was made.

A chunk in which nothing has changed, and which had the same length then, is the one that the base
holds there: the target has told its digest, so it need not be read. All others are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from virtstore.backends.base import Changed
from virtstore.digest import CHUNK
from virtstore.formats.foreign import Foreign
from virtstore.model import Compression
from virtstore.transfer.pieces import Piece, Source
from virtstore.transfer.sources import RawSource


class Since:
    """The image in `source`, of which `changed` may differ from what the base was made of."""

    compression: Compression | None = None
    digest: str | None = None

    def __init__(self, source: RawSource, changed: Changed) -> None:
        self.size = source.size
        self.holds: Foreign | None = source.holds
        self._source = source
        self._changed = changed

    def check(self) -> None:
        self._source.check()

    def again(self) -> Source | None:
        return self._source.again()

    def pieces(self) -> Iterator[Piece]:
        ranges = iter(self._changed.ranges)
        upcoming = next(ranges, None)
        for piece in self._source.pieces():
            while upcoming and sum(upcoming) <= piece.offset:
                upcoming = next(ranges, None)
            touched = upcoming and upcoming[0] < piece.offset + piece.length
            if piece.zeros or touched or piece.length != self._length_then(piece.offset):
                yield piece
            else:
                yield piece._replace(as_in_base=True)

    def _length_then(self, offset: int) -> int:
        """The length of the chunk at a byte when the base was made; less than 1 for none."""
        return min(CHUNK, self._changed.size - offset)
