"""Which place of archives a kept snapshot is for, in a few letters of its name.

Of an image that is backed up to two places, each keeps a snapshot of its own.
"""

from __future__ import annotations

from virtstore.digest import chunk_digest
from virtstore.location import canonical

_BYTES = 4


def kept_for(host: str, path: str) -> str:
    """8 hexadecimal digits that stand for the directory or bucket of the archive with this path on
    a host."""
    place = f"{host}:{canonical(path).rpartition('/')[0]}"
    return chunk_digest(place.encode())[:_BYTES].hex()
