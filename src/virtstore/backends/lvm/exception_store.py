"""What a thick snapshot keeps of its origin, and how that is zeroed before LVM gets it back.

An exception store is full of what the origin once held. `lvconvert --splitsnapshot` makes an
ordinary volume of it, in which dm-snapshot's layout can be read: a header in chunk 0; then
areas, each a chunk of entries (which chunk of the origin lies in which of the store) and
behind it the chunks that it has entries for. Chunks are given out from the front, and an
entry is written once its chunk is, in that order; the first entry of zeros is the end. So
what has been used is a prefix, and zeroing costs what changed, not what the store could hold.

Source: the kernel's drivers/md/dm-snap-persistent.c.
"""

from __future__ import annotations

import struct
from typing import Final

from virtstore.backends.base import Image

_HEADER: Final = struct.Struct("<IIII")  # magic, valid, version, sectors of a chunk
_MAGIC: Final = 0x70416E53
_ENTRY: Final = struct.Struct("<QQ")  # chunk of the origin, chunk of the store; 0: no entry
_SECTOR: Final = 512
#: Bytes that are enough to make the header one that is none.
_FIRST: Final = 4096
#: Chunks behind the last entry: copied, and not yet entered, when the machine last stopped.
#: The kernel has at most 2048 under way (dm-snap.c, DEFAULT_COW_THRESHOLD).
_UNDER_WAY: Final = 4096


def wipe(store: Image) -> None:
    """Zero all that was ever written to a store that has been split off."""
    end = used(store)
    # The header goes first, and for good: were entries to go before it, whoever takes this up
    # after a power cut would find fewer of them. Without a header the whole store is zeroed.
    first = min(_FIRST, store.size)
    store.zero(0, first)
    store.flush()
    store.zero(first, max(0, end - first))
    store.flush()


def used(store: Image) -> int:
    """Bytes from its start that may hold something; all, where the store does not say."""
    magic, valid, version, sectors = _HEADER.unpack(store.read_at(0, _HEADER.size))
    if (magic, valid, version) != (_MAGIC, 1, 1) or not 1 <= sectors <= store.size // _SECTOR:
        return store.size
    chunk: int = sectors * _SECTOR
    entries = chunk // _ENTRY.size
    for area in range(1, store.size // chunk, entries + 1):
        table = store.read_at(area * chunk, chunk)
        filled: list[int] = [place for _, place in _ENTRY.iter_unpack(table)]
        if 0 in filled:
            last = max(area, *filled[: filled.index(0) + 1])
            return min(store.size, (last + 1 + _UNDER_WAY) * chunk)
    return store.size
