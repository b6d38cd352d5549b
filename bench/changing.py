"""An image full of data, and the same one after 1 % of it has changed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from bench.inputs import MIB, SIZE, data_of
from bench.place import Place

WHAT: Final = (
    "`disk.img` is 4 GiB of files' contents, of which nothing is there twice; what changes are"
    " pieces of 1 MiB, anywhere, which become other contents of the same kind."
)
#: One piece in so many changes.
_ONE_IN = 100
_SEED = 7
#: How bytes are exchanged in the pieces that change, before and after. The image's own data comes
#: to none of these.
_BEFORE, _AFTER = 64, 128


def make(place: Place, image: Path) -> None:
    """Make the image, but for the pieces that change."""
    with image.open("wb") as file:
        for piece in islice(_pieces(place, 0), _count(place)):
            file.write(piece)


def write(place: Place, image: Path, *, changed: bool) -> None:
    """Make the pieces that change what they are before, or after."""
    with image.open("r+b") as file:
        pieces = _pieces(place, _AFTER if changed else _BEFORE)
        # The first ones are a file system's tables, of which next to nothing is left compressed.
        pieces = islice(pieces, _count(place) // 40, None)
        for offset, piece in zip(_offsets(place), pieces, strict=False):
            os.pwrite(file.fileno(), piece, offset)
        os.fsync(file.fileno())


def _offsets(place: Place) -> list[int]:
    """Where the pieces are that change: on blocks of a file system, not on our chunks."""
    choice, count = random.Random(_SEED), _count(place)
    numbers = choice.sample(range(count - 1), count // _ONE_IN)
    return [number * MIB + choice.randrange(256) * 4096 for number in numbers]


def _count(place: Place) -> int:
    return SIZE // place.scale // MIB


def _pieces(place: Place, first: int) -> Iterator[bytes]:
    """The data of sparse.img over and over, each time with all bytes exchanged for others: as
    compressible as it was, and nothing twice. `first`: how they are exchanged at first."""
    for kind in range(first, 256):
        exchanged = bytes((byte + kind) % 256 for byte in range(256))
        for piece in data_of(place.path("{a}/sparse.img")):
            yield piece.translate(exchanged)
