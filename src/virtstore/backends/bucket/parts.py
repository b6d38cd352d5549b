"""The parts of an upload whose length nobody knows: how long each is.

An upload has at most 10,000 parts, each of at least 5 MiB but the last. Parts begin small, so that
small archives are sent by several threads and large ones fit. All lengths are bytes.

Source: AWS, "Amazon S3 multipart upload limits".
"""

from __future__ import annotations

from typing import Final

MOST: Final = 10_000
#: The least that a part has which is not the last.
LEAST: Final = 5 << 20
#: The most that one request copies on the server. It could be 5 GiB; but not every server says
#: anything while it copies, and one that is silent is given up.
MOST_COPIED: Final = 512 << 20

_MIB: Final = 1 << 20
#: The length of the parts up to a number: 8 GiB in the first thousand, 320 GiB in nine thousand.
_LENGTHS: Final = ((1000, 8 * _MIB), (3000, 16 * _MIB), (6000, 32 * _MIB), (9000, 64 * _MIB))
#: That of the last thousand, which hold 2 TiB. No memory has room for several: they are kept in
#: files until they are sent.
LONGEST: Final = 2048 * _MIB
#: The longest part that is kept in memory.
IN_MEMORY: Final = 64 * _MIB


def length_of(number: int) -> int:
    """The length of a part that is sent whole, by its number, which begins with 1."""
    return next((length for last, length in _LENGTHS if number <= last), LONGEST)


def least_of(number: int) -> int:
    """The least length of a part that is not the last: one that is cut short, or copied. With half
    of what it could have, an upload has room for half as much."""
    return max(LEAST, length_of(number) // 2)
