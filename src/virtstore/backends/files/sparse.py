"""A draft that takes no more room than its data: its zeros are holes.

Nothing is reserved, which is what every other draft promises. So a file system that runs full ends
the copy in the middle, and later a guest's write. Blocks of zeros within data stay holes as well,
where they are as long as the blocks that are compared in a copy.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Final

from virtstore import linux
from virtstore.backends.base import Look, nothing
from virtstore.backends.files.file import FileDraft
from virtstore.digest import BLOCK
from virtstore.errors import NoSpace

#: What the kernel says where nothing more can be written: a full disk, a quota's end.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_ZEROS: Final = bytes(BLOCK)


class SparseDraft(FileDraft):
    """A file under its temporary name, of which nothing is reserved."""

    #: Whether its file system has been seen to make no holes: then zeros are written.
    _solid = False

    def reserve(
        self, size: int, *, start: int = 0, in_use: bool = False, between: Look = nothing
    ) -> None:
        """Make the file `size` bytes long, and give back what an earlier draft had reserved."""
        if self.allocated:
            for extent in self.extents():
                if extent.kind == "zero":
                    self.zero(extent.offset, extent.length)
        os.ftruncate(self._fd, size)

    def zero(self, offset: int, length: int) -> None:
        try:
            linux.punch_hole(self._fd, offset, length)
        except OSError as error:
            if error.errno not in linux.CANNOT:
                raise
            self._solid = True
            super().zero(offset, length)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        contents = data if isinstance(data, (bytes, bytearray)) else bytes(data)
        for start, end, empty in runs(contents, offset):
            if empty and not self._solid:
                self.zero(offset + start, end - start)
            else:
                self._write(offset + start, memoryview(contents)[start:end])

    def _write(self, offset: int, data: memoryview) -> None:
        try:
            super().write_at(offset, data)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise NoSpace(
                f"{os.strerror(error.errno)}: nothing is reserved for a sparse image, so this was"
                " found on the way; make room, and the same command begins anew"
            ) from None


def runs(data: bytes | bytearray, offset: int) -> Iterator[tuple[int, int, bool]]:
    """The runs (start, end) of blocks of `data`, which is to lie at byte `offset` of a file, and
    whether a run is all zeros."""

    def empty(block: tuple[int, int]) -> bool:
        start, end = block
        return data.startswith(_ZEROS[: end - start], start)

    if not data:
        return
    aligned = range(-offset % BLOCK or BLOCK, len(data), BLOCK)
    for zeros, blocks in groupby(pairwise((0, *aligned, len(data))), empty):
        ends = [end for block in blocks for end in block]
        yield ends[0], ends[-1], zeros
