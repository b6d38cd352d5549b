"""How many requests a backup takes that goes to a bucket, and how many bytes it sends.

Only ranges of a part's least length are copied on the server's side: so each place that changed
sends that much at the least.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from virtstore.backends.bucket import parts

#: What changes lies in pieces of so much of the image, as in the benchmarks.
_PIECE: Final = 1 << 20
#: The claim, the beginning and the end of an upload, and the claim's removal.
_AROUND: Final = 4


class Upload(NamedTuple):
    """Of one backup: `requests` that write, and the bytes that are `sent`."""

    requests: float
    sent: float


def parts_of(length: float) -> int:
    """The parts of an archive of so many bytes."""
    number = 0
    while length > 0:
        number += 1
        length -= parts.length_of(number)
    return number


def of_backup(size: float, compressed: float, changed: float | None) -> Upload:
    """The upload of an image of `size` bytes, of each of which so much is left when it is
    `compressed`. `changed`: the share that is not in the last backup; None: it has no base."""
    length = size * compressed
    whole = Upload(parts_of(length) + _AROUND, length)
    if changed is None:
        return whole
    places = changed * size / _PIECE
    sent = places * (parts.LEAST + _PIECE * compressed)
    if sent >= length:
        return whole
    return Upload(min(2 * places + _AROUND, whole.requests), sent)
