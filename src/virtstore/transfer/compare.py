"""The digests of an image's chunks, as they become known.

One thread learns them in order (by hashing, or from the other host); others ask for one
and wait until it is known.
"""

from __future__ import annotations

import threading

from virtstore.digest import CHUNK, DIGEST_SIZE, zero_digest
from virtstore.errors import Interrupted


class ChunkDigests:
    """The digests of the chunks of the first `size` bytes of an image."""

    def __init__(self, size: int) -> None:
        self.count = -(-size // CHUNK)
        self._known = bytearray()
        self._failure: Exception | None = None
        self._more = threading.Condition()

    def add(self, digests: bytes, zeros: int = 0) -> None:
        """Learn the next: `zeros` chunks of zeros, then those in `digests`. Raises
        `ValueError` where there are more than the image has chunks."""
        added = zeros + len(digests) // DIGEST_SIZE
        with self._more:
            if len(self._known) // DIGEST_SIZE + added > self.count or len(digests) % DIGEST_SIZE:
                raise ValueError("more digests than chunks")
            self._known += zero_digest() * zeros + digests
            self._more.notify_all()

    def close(self, failure: Exception | None = None) -> None:
        """Nothing more will come: who waits gets `failure`, or `Interrupted`."""
        with self._more:
            self._failure = self._failure or failure or Interrupted("the comparison was cut short")
            self._more.notify_all()

    def get(self, chunk: int) -> bytes:
        """The digest of chunk number `chunk`, waiting for it."""
        start, end = chunk * DIGEST_SIZE, (chunk + 1) * DIGEST_SIZE
        with self._more:
            self._more.wait_for(lambda: len(self._known) >= end or self._failure)
            if len(self._known) < end and self._failure:
                raise self._failure
            return bytes(self._known[start:end])

    def all_zero(self, first: int, count: int) -> bool:
        """Whether `count` chunks from number `first` are all zeros, waiting for them."""
        if count:
            self.get(first + count - 1)
        with self._more:
            start, end = first * DIGEST_SIZE, (first + count) * DIGEST_SIZE
            return self._known[start:end] == zero_digest() * count
