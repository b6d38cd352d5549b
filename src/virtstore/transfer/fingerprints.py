"""What a copy's target has already: the fingerprints of its chunks, as they become known.

One thread learns them in order (by hashing, or from the other host); others ask for one
and wait until it is known. What was asked for is forgotten again, so that memory does not
grow with the image: who learns by hashing waits for room.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from virtstore.digest import (
    BLOCK,
    BLOCK_DIGEST_SIZE,
    CHUNK,
    DIGEST_SIZE,
    FINGERPRINT_SIZE,
    block_digests,
    zero_fingerprint,
)
from virtstore.errors import Interrupted

#: Chunks that are known of ahead of the copy: 8 GiB of an image, in some MiB of memory.
WINDOW: Final = 8192
#: Chunks that a thread may ask for at once (see `all_zero`). The window must have room for them.
MOST_AT_ONCE: Final = 256


class Fingerprints:
    """The fingerprints of the chunks of an image's first `size` bytes."""

    def __init__(self, size: int) -> None:
        self.count = -(-size // CHUNK)
        self._known: OrderedDict[int, bytes] = OrderedDict()  # zeros are left out
        self._told = 0
        self._forgotten = 0
        self._finished = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def add(self, fingerprints: bytes, zeros: int = 0) -> None:
        """Learn the fingerprints of the next chunks: `zeros` chunks of zeros, then those in
        `fingerprints`. Raises `ValueError` where there are more than the image has chunks, or more
        than the window has room for; raises the failure that `close` was given."""
        count, odd = divmod(len(fingerprints), FINGERPRINT_SIZE)
        with self._changed:
            start = self._told + zeros
            if odd or zeros < 0 or start + count > self.count:
                raise ValueError("more fingerprints than chunks")
            if self._failure:
                raise self._failure
            if len(self._known) + count > 2 * WINDOW:
                raise ValueError("fingerprints come too early")
            for number in range(count):
                at = number * FINGERPRINT_SIZE
                self._known[start + number] = fingerprints[at : at + FINGERPRINT_SIZE]
            self._told = start + count
            self._changed.notify_all()

    def finish(self) -> None:
        """All fingerprints were added: the target has nothing of the chunks behind them."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: nobody asks for fingerprints any more."""
        return self._failure is not None

    def close(self, failure: BaseException | None = None) -> None:
        """End it before all fingerprints are known. Threads that wait for one, or ask later, get
        `failure` raised, or `Interrupted`."""
        with self._changed:
            self._failure = self._failure or failure or Interrupted("the comparison was cut short")
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until fewer than `WINDOW` fingerprints are held, or `close` is called."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._known) < WINDOW or self._failure)

    def forget(self, before: int) -> None:
        """No chunk before number `before` will be asked for again."""
        with self._changed:
            self._forgotten = max(self._forgotten, before)
            while self._known and next(iter(self._known)) < before:
                self._known.popitem(last=False)
            self._changed.notify_all()

    def get(self, chunk: int) -> bytes:
        """The fingerprint of chunk number `chunk`, once it is known; empty where the target has
        nothing of that chunk."""
        with self._changed:
            self._wait_for(chunk)
            return self._get(chunk)

    def all_zero(self, first: int, count: int) -> bool:
        """Whether the `count` chunks from number `first` on are all zeros, once that is known.
        `count` is `MOST_AT_ONCE` at the most."""
        with self._changed:
            if count:
                self._wait_for(first + count - 1)
            zeros = zero_fingerprint()
            return all(self._get(chunk) == zeros for chunk in range(first, first + count))

    def _wait_for(self, chunk: int) -> None:
        if chunk < self._forgotten:
            raise ValueError(f"chunk {chunk} was forgotten")
        self._changed.wait_for(lambda: self._told > chunk or self._finished or self._failure)
        if self._told <= chunk and self._failure:
            raise self._failure

    def _get(self, chunk: int) -> bytes:
        return self._known.get(chunk, zero_fingerprint()) if chunk < self._told else b""


def differing_blocks(contents: bytes | bytearray, there: bytes) -> tuple[int, ...]:
    """The numbers of those blocks of a chunk whose digests differ from the fingerprint's,
    `there`."""
    size = BLOCK_DIGEST_SIZE
    known = [there[at : at + size] for at in range(DIGEST_SIZE, FINGERPRINT_SIZE, size)]
    found = block_digests(contents)
    return tuple(number for number, digest in enumerate(found) if digest != known[number])


def block_range(number: int, length: int) -> tuple[int, int]:
    """Where block `number` of a chunk of `length` bytes begins and ends."""
    return number * BLOCK, min(number * BLOCK + BLOCK, length)
