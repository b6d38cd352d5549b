"""What lz4, gzip and xz have in common: members that are decoded one after another.

A decoder of the standard library's shape takes what the archive has next, gives out a
bounded piece at a time, says when its member has ended, and hands back what it was given
too much. A member that does not end is a truncated archive, whatever it gave before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.formats.base import Sink
from virtstore.formats.cursor import READ_AHEAD, Cursor

#: Bytes that a decoder is given first, and may give out then; each time after, twice as many. An
#: archive may be a million small members, of which each hands back what it was given too much.
_FIRST: Final = 512
_MOST_FROM_FIRST: Final = 16 << 10


class Decoder(Protocol):
    """As `lzma.LZMADecompressor`: for one member."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Encoder(Protocol):
    """As `zlib.compressobj()`."""

    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


def read_member(
    cursor: Cursor, decoder: Decoder, failure: type[Exception] | tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """The contents of the member at `cursor`, which ends up behind it; `failure` is what
    the decoder raises for damage. Raises `Corrupt` for a member that is damaged or does not end."""
    given, wanted = _FIRST, _MOST_FROM_FIRST
    while not decoder.eof:
        data = cursor.take_some(given) if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise Corrupt(f"the archive is truncated: it ends at byte {cursor.position}")
        try:
            piece = decoder.decompress(data, wanted)
        except failure as error:
            at = cursor.position
            raise Corrupt(f"the archive is damaged before byte {at}: {error}") from None
        given, wanted = min(2 * given, READ_AHEAD), min(2 * wanted, CHUNK)
        if piece:
            yield piece
    cursor.give_back(len(decoder.unused_data or b""))


class MemberWriter:
    """One member, of an image that comes in pieces; `head` is what it begins with."""

    def __init__(self, sink: Sink, encoder: Encoder, head: bytes = b"") -> None:
        self._sink = sink
        self._encoder = encoder
        self._put(head)

    def write(self, data: bytes) -> None:
        self._put(self._encoder.compress(data))

    def finish(self) -> None:
        self._put(self._encoder.flush())

    def abandon(self) -> None:
        """Nothing: the writer holds memory only."""

    def _put(self, data: bytes) -> None:
        if data:
            self._sink(data)
