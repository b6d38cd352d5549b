"""What an archive keeps of each of its frames, so that nobody has to decompress it to know.

A *seal* is the digest of what a frame holds and a checksum of its bytes as they are stored. The
seals are a frame of their own, behind the data. The digests in them make up the image's digest, and
a digest of all seals stands in the JSON frame: so a seal that can be read is one that was written.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from virtstore.digest import DIGEST_SIZE, ImageDigest
from virtstore.errors import Corrupt
from virtstore.formats.base import ArchiveSource
from virtstore.formats.seek_table import FrameTable

CHECKSUM_SIZE: Final = 16
SEAL: Final = struct.Struct(f"<{DIGEST_SIZE}s{CHECKSUM_SIZE}s")
#: Of a frame of zeros, in place of their digest.
NOTHING: Final = bytes(DIGEST_SIZE)

_GROUP: Final = 256  # seals that are read at once


class Seal(NamedTuple):
    """A frame's: the digest of its contents, `NOTHING` for zeros; the checksum of its bytes."""

    digest: bytes
    checksum: bytes

    @property
    def zeros(self) -> bool:
        return self.digest == NOTHING


def checksum(frame: bytes | memoryview) -> bytes:
    """The 16-byte checksum of a frame as it is stored: the first half of its BLAKE3."""
    return blake3(frame).digest(length=CHECKSUM_SIZE)


class Seals:
    """The seals of an archive, read where they lie: `at` is the first one's byte. Safe for any
    number of threads."""

    def __init__(
        self, source: ArchiveSource, at: int, frames: FrameTable, covered: str, digest: str
    ) -> None:
        """`covered`: the digest of all seals, `digest`: the image's, in hex."""
        self._source = source
        self._at = at
        self._frames = frames
        self._covered = covered
        self._digest = digest
        self._checked = False
        self._lock = threading.Lock()
        self._group: tuple[int, bytes] = (-1, b"")

    def __getitem__(self, index: int) -> Seal:
        """The seal of a frame. Raises `Corrupt` where the seals are damaged."""
        self.check()
        number, within = divmod(index, _GROUP)
        with self._lock:
            if self._group[0] != number:
                self._group = number, self._read(number)
            return Seal._make(SEAL.unpack_from(self._group[1], within * SEAL.size))

    def check(self) -> None:
        """Raises `Corrupt` unless these are the seals that were written. The first call reads them
        all."""
        with self._lock:
            if self._checked:
                return
            covered, digest = blake3(), ImageDigest()
            lengths = (length for _, length in self._frames.sizes())
            for number in range(-(-len(self._frames) // _GROUP)):
                group = self._read(number)
                covered.update(group)
                for (contents, _), length in zip(SEAL.iter_unpack(group), lengths, strict=False):
                    if contents == NOTHING:
                        digest.add_zeros(length)
                    else:
                        digest.add(contents)
            if covered.hexdigest() != self._covered or digest.hexdigest() != self._digest:
                raise Corrupt(
                    f"what the archive keeps of its frames' digests, from byte {self._at} on, is"
                    " damaged"
                )
            self._checked = True

    def _read(self, number: int) -> bytes:
        first = number * _GROUP
        length = SEAL.size * min(_GROUP, len(self._frames) - first)
        data = self._source.read_at(self._at + first * SEAL.size, length)
        if len(data) < length:
            raise Corrupt(f"the archive is truncated at byte {self._at + first * SEAL.size}")
        return data


def seals_of(data: bytes) -> Iterator[Seal]:
    """The seals in these bytes, as a frame of seals has them."""
    return map(Seal._make, SEAL.iter_unpack(data))
