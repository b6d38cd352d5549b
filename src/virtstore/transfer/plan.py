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
    """The image of `size` bytes from start to end, without gaps: `zero` runs that begin on
    a chunk boundary and end on one or with the image, and single chunks of kind `unknown`."""
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
    """The extents that may not be zeros, widened to whole chunks (but not beyond `size`)."""
    for extent in extents:
        if extent.kind != "zero" and extent.length:
            start = extent.offset // CHUNK * CHUNK
            end = -(-extent.end // CHUNK) * CHUNK
            yield start, min(end, size)
