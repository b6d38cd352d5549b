"""The pieces of what a copy reads: a run of zeros, or one chunk.

A piece's contents are read by whoever works on it, in any thread, and a piece of an archive of ours
can also be had as the very frame that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from virtstore.errors import Corrupt
from virtstore.formats.foreign import Foreign
from virtstore.model import Compression


class Piece(NamedTuple):
    """A run of zeros, or one chunk. `read` gives its bytes; `frame` gives it as the zstd frame that
    an archive stores; `digest` gives its digest as an archive keeps it; `announce` is called before
    it is read. `check` holds the stored bytes of either against the checksum that an archive keeps
    of them. `as_in_base`: it is the chunk that the base of the copy has there, which need not be
    read to know. What has neither `read` nor `digest` is zeros."""

    offset: int
    length: int
    read: Callable[[], bytes] | None = None
    frame: Callable[[], bytes] | None = None
    announce: Callable[[], None] | None = None
    digest: Callable[[], bytes] | None = None
    check: Callable[[], object] | None = None
    as_in_base: bool = False

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


def announced(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces, each announced just before it is given."""
    for piece in pieces:
        if piece.announce:
            piece.announce()
        yield piece
