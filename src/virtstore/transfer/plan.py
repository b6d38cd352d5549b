"""What a copy has to look at: an image's extents, cut into runs of zeros and chunks.

Pure: it knows extents and numbers only. A chunk of which any byte may not be zero is
looked at whole; a run of chunks that are zeros for certain is one step, however long, so
the cost of a plan follows the data and not the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from virtstore.digest import CHUNK
from virtstore.model import Extent


def steps(extents: Iterable[Extent], size: int) -> Iterator[Extent]:
    """The image of `size` bytes from start to end, without gaps, as runs of kind `zero` and single
    chunks of kind `unknown`. A run begins on a chunk boundary, and ends on one or with the
    image."""
    position = 0
    for start, end in _to_look_at(extents, size):
        if start > position:
            yield Extent(position, start - position, "zero")
        for offset in range(max(start, position), end, CHUNK):
            yield Extent(offset, min(CHUNK, size - offset), "unknown")
        position = max(position, end)
    if position < size:
        yield Extent(position, size - position, "zero")


def _to_look_at(extents: Iterable[Extent], size: int) -> Iterator[tuple[int, int]]:
    """Where an extent is not zeros for certain: whole chunks, cut at `size`, as (start, end)."""
    for extent in extents:
        if extent.kind != "zero" and extent.length:
            start = extent.offset // CHUNK * CHUNK
            end = -(-extent.end // CHUNK) * CHUNK
            yield start, min(end, size)
