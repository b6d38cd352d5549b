"""The digest of an image: BLAKE3 over the concatenated BLAKE3 digests of its chunks.

An image is cut into chunks of 1 MiB from its start; the last may be shorter. Two
images are equal exactly if their sizes and digests are. Chunks can be hashed in any
order by any number of threads (BLAKE3 releases the interpreter's lock), and the digest
of a chunk of zeros is a constant, so zeros are never hashed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from blake3 import blake3

#: Bytes in a chunk: the unit of digests, of copying, and of an archive's frames.
CHUNK: Final = 1 << 20
#: Bytes in a chunk's digest.
DIGEST_SIZE: Final = 32

#: A chunk of zeros, to compare with and to write.
ZEROS: Final = bytes(CHUNK)


def chunk_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte digest of one chunk's contents."""
    return blake3(data).digest()


@lru_cache(maxsize=16)
def zero_digest(length: int = CHUNK) -> bytes:
    """The digest of a chunk of `length` zeros."""
    return chunk_digest(ZEROS[:length])


class ImageDigest:
    """Builds an image's digest from its chunks' digests, given in the image's order."""

    def __init__(self) -> None:
        self._hash = blake3()

    def add(self, digest: bytes) -> None:
        self._hash.update(digest)

    def add_zeros(self, length: int) -> None:
        """A run of `length` zeros that starts on a chunk boundary and ends on one, or with
        the image."""
        whole, rest = divmod(length, CHUNK)
        while whole:
            step = min(whole, 4096)
            self._hash.update(zero_digest() * step)
            whole -= step
        if rest:
            self._hash.update(zero_digest(rest))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
