"""A compression level that gives way to a fast link.

Where a copy waits for its compressor and not for the link, a lower level moves more of the
image a second, at the price of more bytes; where it waits for the link, the level rises
again, up to the one that it began with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from virtstore.formats.chunk_frames import DEFAULT_LEVEL
from virtstore.transfer.pipeline import WORKERS

Told = TypeVar("Told")

#: From the default level down; below the last, zstd hardly gets faster.
FALLING: Final = (DEFAULT_LEVEL, -1, -3, -5, -7)
#: Results after which the level is thought over.
_EVERY: Final = 32


class AdaptiveLevel:
    """The level to compress at, one of `levels`. It begins with the first; a single one stays."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        self._levels = levels
        self._step = 0
        self._compressing = 0.0  # seconds, of all threads; an update that is lost does no harm

    @property
    def now(self) -> int:
        return self._levels[self._step]

    @contextmanager
    def compressing(self) -> Iterator[int]:
        """Measures how long the block, in which a thread compresses, takes. Gives the level."""
        begun = time.monotonic()
        yield self.now
        self._compressing += time.monotonic() - begun

    def follow(self, results: Iterator[Told]) -> Iterator[Told]:
        """Passes on the results of compressing threads, and adjusts the level. The time that each
        result is waited for is the compressor's; the time until the next is asked for is the
        link's."""
        waited = sent = 0.0
        before = time.monotonic()
        for count, result in enumerate(results, 1):
            there = time.monotonic()
            waited += there - before
            yield result
            before = time.monotonic()
            sent += before - there
            if count % _EVERY == 0:
                self._think(waited, sent)
                waited = sent = 0.0

    def _think(self, waited: float, sent: float) -> None:
        """Lower the level where the copy waited for its compressor, raise it where it waited for
        the link. A slow disk changes nothing: the compressing threads are idle then."""
        busy = self._compressing > (waited + sent) * WORKERS / 2
        self._compressing = 0.0
        if busy and waited > sent:
            self._step = min(self._step + 1, len(self._levels) - 1)
        elif sent > 2 * waited:
            self._step = max(self._step - 1, 0)
