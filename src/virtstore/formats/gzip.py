"""gzip: members one after another, each with a CRC-32 of its contents.

ISA-L decodes twice as fast as zlib and checks the same things. What follows the last member is
`Trailing`: zero padding, which `gzip -t` accepts and tapes add, or what another program appended.

Source: RFC 1952.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import Final, cast

from virtstore.errors import Corrupt
from virtstore.formats.base import ArchiveSource, Sink
from virtstore.formats.cursor import Cursor
from virtstore.formats.streams import Decoder, Encoder, MemberWriter, read_member
from virtstore.model import Compression
from virtstore.names import SUFFIXES

_MAGIC: Final = b"\x1f\x8b\x08"  # the third byte: deflate, the only method there is
_RESERVED_FLAGS: Final = 0xE0
_GZIP_MEMBER: Final = 31  # zlib's wbits for a window of 32 KiB in gzip's framing


class Gzip:
    name: Compression = "gzip"
    suffix = SUFFIXES["gzip"]
    levels = range(1, 10)
    default_level = 2

    def missing(self) -> tuple[str, ...]:
        return ()

    def recognises(self, head: bytes) -> bool:
        """By magic number and method, and no flag that RFC 1952 does not define."""
        return head.startswith(_MAGIC) and len(head) > 3 and not head[3] & _RESERVED_FLAGS

    def image_size(self, source: ArchiveSource) -> int | None:
        """Not known: a member states its size modulo 4 GiB, behind its contents."""
        return None

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        from isal import igzip_lib  # takes long to import, and few archives are gzip's

        # isal's own annotations call it an instance.
        isal_error = cast(type[Exception], igzip_lib.IsalError)
        cursor = Cursor(source)
        for members in itertools.count():
            if not self.recognises(cursor.peek(4)):
                if members:
                    raise cursor.trailing(self.name, members)
                raise Corrupt(f"no gzip member begins at byte {cursor.position}")
            decoder = cast(Decoder, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))
            yield from read_member(cursor, decoder, isal_error)
            if cursor.at_end:
                return

    def writer(self, sink: Sink, level: int | None = None) -> MemberWriter:
        return MemberWriter(sink, _encoder(self.default_level if level is None else level))


def _encoder(level: int) -> Encoder:
    from isal import isal_zlib

    # ISA-L has levels up to 3, each far faster than zlib's of about the same density.
    if level <= isal_zlib.ISAL_BEST_COMPRESSION:
        return cast(Encoder, isal_zlib.compressobj(level, wbits=_GZIP_MEMBER))
    return zlib.compressobj(level, wbits=_GZIP_MEMBER)
