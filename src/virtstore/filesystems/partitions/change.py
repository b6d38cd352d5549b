"""The partition table of an image, to be read and to be changed: GPT or MBR, whichever it has.

They are read here and not by sfdisk, since that would be one more process an image, and it
cannot read a table for sectors of 4096 bytes from a file. A GPT says what sectors it is for by
where its header lies; an MBR does not say, and is read as for 512. Sun's, SGI's, Apple's and
other tables that blkid names, or disklabels.py, are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import structs

from virtstore.errors import Corrupt
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.gpt import is_protective, read_gpt
from virtstore.filesystems.partitions.gpt_copies import read_copies
from virtstore.filesystems.partitions.mbr import read_mbr
from virtstore.filesystems.partitions.table import (
    Table,
    Write,
    Writes,
    end_of,
    is_container,
)
from virtstore.undo import undone_by

__all__ = [
    "KINDS",
    "Table",
    "Write",
    "Writes",
    "apply",
    "changed",
    "end_of",
    "is_container",
    "read_table",
]

#: blkid's names of the tables that are read. `PMBR`: an MBR that says that a GPT follows, where
#: blkid finds none; it looks for one in sectors of 512 bytes only.
KINDS: Final = frozenset({"dos", "gpt", "PMBR"})

#: Bytes of the sectors that a GPT may be for.
_SECTORS: Final = (512, 4096)
_UNTOLD: Final = (
    "it has a GPT, and an MBR that does not tell of it; which of them counts cannot be told (gdisk"
    " can remove either)"
)


def read_table(device: Device) -> Table:
    """The partition table of a whole device that has one. Raises `Corrupt` for one that makes
    no sense; one that can be read and not trusted says so itself (`damage`, `warnings`)."""
    if not is_protective(device.read(0, 512)):
        return _without_gpt(device)
    found = [gpt for sector in _SECTORS if (gpt := read_gpt(device, sector))]
    if len(found) > 1:
        raise Corrupt(
            "it has two GPTs, for sectors of 512 bytes and of 4096; which one counts cannot be told"
        )
    return found[0] if found else read_mbr(device)


def _without_gpt(device: Device) -> Table:
    """The MBR, which counts by itself; but is there a GPT as well, somebody may have damaged
    the record that tells of it."""
    mbr = read_mbr(device)
    copies = (read_copies(device, sector).primary for sector in _SECTORS)
    if mbr.damage or not any(copy and copy.whole for copy in copies):
        return mbr
    return structs.replace(mbr, warnings=(_UNTOLD,), damage=_UNTOLD, measured=False)


def outstanding(device: Device, writes: Writes) -> Writes:
    """Those of `writes` that would change something."""
    return tuple(w for w in writes if _read(device, w.offset, len(w.data)) != w.data)


def apply(device: Device, writes: Writes) -> bool:
    """Make a change, each write flushed before the next; whether there was anything to do.
    The descriptor is open for writing. An `OSError` leaves the old table or the new."""
    changed = False
    for write in writes:
        if not outstanding(device, (write,)):
            continue
        _write(device, write)
        os.fsync(device.fd)
        changed = True
    return changed


@contextmanager
def changed(disk: Device, writes: Writes, head: Device) -> Iterator[None]:
    """Change a table for the block. If the block ends in an error, the table is put back, provided
    that `head`, with which the file system begins, is as it was: otherwise the file system may have
    outgrown the old table."""
    news = outstanding(disk, writes)
    before = tuple(Write(w.offset, _read(disk, w.offset, len(w.data))) for w in news)
    untouched = head.read(0, head.size)
    apply(disk, news)

    def undo() -> None:
        if head.read(0, head.size) == untouched:
            apply(disk, before[::-1])

    with undone_by(undo):
        yield


def _read(device: Device, offset: int, length: int) -> bytes:
    return os.pread(device.fd, length, device.start + offset)


def _write(device: Device, write: Write) -> None:
    done = 0
    while done < len(write.data):
        done += os.pwrite(device.fd, write.data[done:], device.start + write.offset + done)
