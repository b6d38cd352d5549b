"""The header of a VDI, VirtualBox's format: dynamic and static ones.

Source: VirtualBox's VDICore.h; QEMU's block/vdi.c, which reads blocks of 1 MiB only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import (
    SECTOR,
    VirtualDisk,
    fields,
    not_one,
    read,
    require_inside,
    require_size,
)

_SIGNATURE: Final = 0xBEDA107F
_VERSION: Final = 0x00010001
_BLOCK: Final = 1 << 20
_MOST_MAP: Final = 64 << 20
_WHOLE: Final = (1, 2)  # dynamic, static
_CLONE: Final = "`VBoxManage clonemedium disk FILE NEW.vdi`, where VirtualBox has it,"


class _Header(NamedTuple):
    map_at: int
    data_at: int
    sector: int
    size: int
    block: int
    blocks: int


def examine_vdi(source: ArchiveSource) -> VirtualDisk:
    """What the header of a VDI says (`disks.examine`)."""
    if source.read_at(0x40, 4) != _SIGNATURE.to_bytes(4, "little"):
        raise not_one("vdi")
    version, kind = fields(source, 0x44, "<I4xI")
    if version != _VERSION:
        raise Unsupported(
            f"it is a VDI of version {version >> 16}.{version & 0xFFFF}, and 1.1 is known here;"
            f" {_CLONE} makes one of that"
        )
    _require_alone(source, kind)
    header = _Header(*fields(source, 0x154, "<II12xI4xQI4xI"))
    require_size(header.size)
    _require_map(source, header)
    return VirtualDisk("vdi", header.size + -header.size % SECTOR, header.block)


def _require_alone(source: ArchiveSource, kind: int) -> None:
    parents = read(source, 0x1A8, 32)
    if kind not in _WHOLE or any(parents):
        raise Unsupported(
            "it is a VDI that is laid over another, its parent, which virtstore does not open (a"
            f" snapshot of VirtualBox's); {_CLONE} makes a whole image"
        )


def _require_map(source: ArchiveSource, header: _Header) -> None:
    """Raises `Corrupt` or `Unsupported` unless the map of blocks can be as the header says."""
    if header.sector != SECTOR or header.block != _BLOCK:
        raise Unsupported(
            f"it is a VDI with sectors of {header.sector} and blocks of {header.block} bytes, and"
            f" {SECTOR} and {_BLOCK} are known here; {_CLONE} may make one of those"
        )
    length = header.blocks * 4
    unaligned = header.map_at % SECTOR or header.data_at % SECTOR or header.map_at < SECTOR
    if unaligned or length > _MOST_MAP or header.blocks * header.block < header.size:
        raise Corrupt(
            f"its header says that the map of its {header.blocks} blocks lies at byte"
            f" {header.map_at} and its data at {header.data_at}, for a disk of {header.size} bytes:"
            " it is damaged; restore the image from a backup"
        )
    require_inside(source, "its map of blocks", header.map_at, length)
