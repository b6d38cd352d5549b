"""The digest of an image: BLAKE3 over the concatenated BLAKE3 digests of its chunks.

An image is cut into chunks of 1 MiB from its start; the last may be shorter. Two
images are equal exactly if their sizes and digests are. Chunks can be hashed in any
order by any number of threads (BLAKE3 releases the interpreter's lock), and the digest
of a chunk of zeros is a constant, so zeros are never hashed.

A chunk's *fingerprint* is what one host tells another of a chunk that it has: the chunk's
digest, and shorter ones of its blocks of 64 KiB, so that only those blocks of it need to
move that differ. All in all 288 bytes for a MiB, less than 0.03 %.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from blake3 import blake3

#: Bytes in a chunk: the unit of digests, of copying, and of an archive's frames.
CHUNK: Final = 1 << 20
#: Bytes in a chunk's digest.
DIGEST_SIZE: Final = 32

#: Bytes in a block, of which a chunk has 16, and in a block's digest. That is cut to half: a
#: block that was taken for equal and is not would be found by the chunk's own digest.
BLOCK: Final = 64 << 10
BLOCK_DIGEST_SIZE: Final = 16
#: Bytes in a chunk's fingerprint.
FINGERPRINT_SIZE: Final = DIGEST_SIZE + CHUNK // BLOCK * BLOCK_DIGEST_SIZE

#: A chunk of zeros, to compare with and to write.
ZEROS: Final = bytes(CHUNK)


def chunk_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte digest of one chunk's contents."""
    return blake3(data).digest()


@lru_cache(maxsize=16)
def zero_digest(length: int = CHUNK) -> bytes:
    """The digest of a chunk of `length` zeros."""
    return chunk_digest(ZEROS[:length])


def fingerprint(data: bytes | bytearray | memoryview, *, blocks: bool = True) -> bytes:
    """The fingerprint of one chunk's contents; of blocks that a short chunk has not, zeros.
    Without `blocks`, zeros for all of them: the chunk is to be moved as a whole, or not."""
    digests = block_digests(data) if blocks else ()
    return b"".join((chunk_digest(data), *digests)).ljust(FINGERPRINT_SIZE, b"\0")


def block_digests(data: bytes | bytearray | memoryview) -> list[bytes]:
    """The short digests of a chunk's blocks, of which the last may be shorter."""
    view = memoryview(data)
    starts = range(0, len(view), BLOCK)
    return [blake3(view[at : at + BLOCK]).digest(length=BLOCK_DIGEST_SIZE) for at in starts]


@lru_cache(maxsize=16)
def zero_fingerprint(length: int = CHUNK) -> bytes:
    """The fingerprint of a chunk of `length` zeros."""
    return fingerprint(ZEROS[:length])


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
