"""The header of a VHDX, Hyper-V's format.

Two copies of a header, of which the one with the higher sequence number counts; a table of
regions; among those the metadata, with the size. Checksums are left to the engine.

Source: Microsoft's [MS-VHDX] 2.2 (headers, regions) and 2.6 (metadata).
"""

from __future__ import annotations

import struct
from typing import Final

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.containers import FILE_PARAMETERS, HAS_PARENT, VHDX_SIZE, vhdx_metadata
from virtstore.formats.disks.base import (
    SECTOR,
    VirtualDisk,
    converted,
    not_one,
    read,
    require_size,
)

_MAGIC: Final = b"vhdxfile"
_HEADERS_AT: Final = (64 << 10, 128 << 10)
_BLOCKS: Final = frozenset((1 << 20) << power for power in range(9))  # 1 to 256 MiB
_MOST_SIZE: Final = 64 << 40


def examine_vhdx(source: ArchiveSource) -> VirtualDisk:
    """What the header of a VHDX says (`disks.examine`)."""
    if source.read_at(0, len(_MAGIC)) != _MAGIC:
        raise not_one("vhdx")
    _refuse_log(source)
    items = dict(vhdx_metadata(source))
    block, flags = _numbers(items.get(FILE_PARAMETERS, b""), "<II")
    (size,) = _numbers(items.get(VHDX_SIZE, b""), "<Q")
    if flags & HAS_PARENT:
        raise Unsupported(
            "it is a VHDX that is laid over another, its parent, which virtstore does not open;"
            " `Convert-VHD` of Hyper-V, where both are, makes a whole image"
        )
    require_size(size)
    if block not in _BLOCKS or size > _MOST_SIZE or size % SECTOR:
        raise _damaged(f"a disk of {size} bytes in blocks of {block}")
    return VirtualDisk("vhdx", size, block)


def _refuse_log(source: ArchiveSource) -> None:
    """Raises `Corrupt` where changes are in the log only."""
    headers = [read(source, at, 64) for at in _HEADERS_AT]
    whole = [header for header in headers if header.startswith(b"head")]
    if not whole:
        raise _damaged("none of its two headers is there")
    newest = max(whole, key=lambda header: int.from_bytes(header[8:16], "little"))
    if any(newest[48:64]):
        raise Corrupt(
            "changes to it are in its log only: what wrote it has it open, or died with it. Once"
            " nobody uses it, `qemu-img check -r all FILE` brings them to their places"
        )


def _numbers(item: bytes, form: str) -> tuple[int, ...]:
    if len(item) < struct.calcsize(form):
        raise _damaged("it does not say what its disk is like")
    return struct.unpack_from(form, item)


def _damaged(says: str) -> Corrupt:
    return Corrupt(
        f"its header is damaged ({says}); {converted('vhdx')} may read what is left, or restore the"
        " image from a backup"
    )
