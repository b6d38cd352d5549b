"""A budget for the walk over an archive's headers, by which the size of its image is learnt.

A guest can make its image look like an archive of billions of headers with nothing between
them, and whoever lists a directory asks every image in it. So that question has a budget, the
same in all formats. Reading an archive has none: that takes as long as its contents take.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from virtstore.errors import Corrupt
from virtstore.units import MAX_SIZE

#: Headers that are looked at to learn a size: some seconds at the worst. Of genuine archives that
#: is 128 GiB in zstd's blocks, 256 GiB in lzop's, 4 TiB in those that the lz4 program makes,
#: and 24 TiB in those of `xz -T0`.
MOST_HEADERS: Final = 1 << 20


class OverBudget(Exception):
    """The budget is used up before the size of the image is known."""


class HeaderBudget:
    """A budget of `most` steps (None: `MOST_HEADERS`). To read one header, of a frame, a block or a
    record of an index, is a step."""

    def __init__(self, most: int | None = None) -> None:
        self._left = MOST_HEADERS if most is None else most

    @classmethod
    def unlimited(cls) -> HeaderBudget:
        return cls(sys.maxsize)

    def take(self, count: int = 1) -> None:
        """Use up `count` steps. Raises `OverBudget` where fewer are left."""
        self._left -= count
        if self._left < 0:
            raise OverBudget


def total(sizes: Iterable[int | None]) -> int | None:
    """The sum of what an archive's frames say that they hold, learnt within a budget; None if
    one does not say it, or the budget is too small. Raises `Corrupt` for what no file can be."""
    found = 0
    try:
        for size in sizes:
            if size is None:
                return None
            found += size
            if found > MAX_SIZE:
                raise Corrupt("the archive claims 8 EiB or more, which no file can be")
    except OverBudget:
        return None
    return found
