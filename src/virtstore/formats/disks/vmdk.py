"""The header of a VMDK that is one file: monolithicSparse, as hypervisors use it, and
streamOptimized, as they export it.

All other kinds are a descriptor that names the files with the data. A descriptor is in these two
as well, behind the header: it may name no other file. A header without a capacity says that the
descriptor counts, and QEMU would go by that; a capacity is required here.

Source: VMware's Virtual Disk Format 5.0 (hosted sparse extents, stream-optimized ones); QEMU's
block/vmdk.c.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats import containers
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import (
    SECTOR,
    VirtualDisk,
    converted,
    fields,
    not_one,
    require_inside,
    require_size,
)
from virtstore.text import printable

_MAGIC: Final = b"KDMV"
_NEWEST: Final = 3
_MOST_GRAIN: Final = 1 << 21  # sectors, as QEMU has it
_ENTRIES: Final = 512
_MOST_DIRECTORY: Final = 64 << 20
_DESCRIPTOR_AT: Final = 1  # sector: where all writers put it, and QEMU reads it
_LEAST_DESCRIPTOR: Final = 20 * SECTOR
_MOST_DESCRIPTOR: Final = 64 << 10
_AT_END: Final = (1 << 64) - 1
_FOOTER: Final = 2 * SECTOR
_DEFLATE: Final = 1

_KIND: Final = re.compile(r'^createType\s*=\s*"([^"\n]*)"', re.I | re.M)
_ONE_FILE: Final = ("monolithicsparse", "streamoptimized")
_EXTENT: Final = re.compile(r"^(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", re.I | re.M)
_NO_PARENT: Final = re.compile(r"^parentCID\s*=\s*ffffffff\s*$", re.I | re.M)
_ANY_PARENT: Final = re.compile(r"parentFileNameHint", re.I)


class _Header(NamedTuple):
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_length: int
    entries: int
    redundant_at: int
    directory_at: int


def examine_vmdk(source: ArchiveSource) -> VirtualDisk:
    """What the header of a VMDK says (`disks.examine`)."""
    header = _header(source)
    _require_alone(_descriptor(source, header))
    size = header.capacity * SECTOR
    require_size(size)
    _require_directory(source, header)
    return VirtualDisk("vmdk", size, header.grain * SECTOR)


def _header(source: ArchiveSource) -> _Header:
    if source.read_at(0, len(_MAGIC)) != _MAGIC:
        found = containers.detect(source)
        raise _in_parts() if found and found.format == "vmdk" else not_one("vmdk")
    header = _fields(source, 0)
    if header.directory_at == _AT_END:
        header = _footer(source, header)
    if not 1 <= header.version <= _NEWEST:
        raise Unsupported(
            f"it is a VMDK of version {header.version}, and versions 1 to {_NEWEST} are known here;"
            f" what made it can export it anew"
        )
    return header


def _fields(source: ArchiveSource, at: int) -> _Header:
    (algorithm,) = fields(source, at + 77, "<H")
    if algorithm > _DEFLATE:
        raise Unsupported(f"it is compressed in a way that is not known here ({algorithm})")
    return _Header(*fields(source, at + 4, "<IIQQQQIQQ"))


def _footer(source: ArchiveSource, header: _Header) -> _Header:
    """The header that follows the data, of what was written as a stream. It says where the
    directory is, and nothing else that the first one does not."""
    at = source.size - _FOOTER
    if source.size % SECTOR or at <= 0 or source.read_at(at, len(_MAGIC)) != _MAGIC:
        raise Corrupt(
            "it was written as a stream, and its footer is not there: it was cut; copy it again"
            " from where it came from"
        )
    footer = _fields(source, at)
    if footer._replace(directory_at=_AT_END) != header or footer.directory_at == _AT_END:
        raise _damaged("its header and its footer differ")
    return footer


def _descriptor(source: ArchiveSource, header: _Header) -> str:
    if header.descriptor_at == 0:
        raise _in_parts()
    length = header.descriptor_length * SECTOR
    if header.descriptor_at != _DESCRIPTOR_AT or not 0 < length <= _MOST_DESCRIPTOR:
        raise _damaged("its descriptor lies where none does")
    require_inside(source, "its descriptor", header.descriptor_at * SECTOR, length)
    data = source.read_at(_DESCRIPTOR_AT * SECTOR, max(length, _LEAST_DESCRIPTOR))
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _require_alone(descriptor: str) -> None:
    """Raises `Unsupported` for a descriptor that needs any other file."""
    kind = _KIND.search(descriptor)
    if not kind or kind[1].lower() not in _ONE_FILE:
        raise _in_parts(kind[1] if kind else "")
    extents = _EXTENT.findall(descriptor)
    if [extent.upper() for extent in extents] != ["SPARSE"]:
        raise _in_parts()
    if _ANY_PARENT.search(descriptor) or not _NO_PARENT.search(descriptor):
        raise Unsupported(
            "it is laid over another VMDK, its parent, which virtstore does not open;"
            f" {converted('vmdk')}, where both are, makes a whole image"
        )


def _in_parts(kind: str = "") -> Unsupported:
    told = f" ({printable(kind[:40])})" if kind else ""
    return Unsupported(
        f"it is a VMDK of several files{told}, and virtstore opens those that are one:"
        f" monolithicSparse and streamOptimized. {converted('vmdk')}, with the descriptor as FILE"
        " and its other files beside it, makes one image"
    )


def _require_directory(source: ArchiveSource, header: _Header) -> None:
    """Raises `Corrupt` unless the grain directory can be as the header says."""
    grain, entries = header.grain, header.entries
    if not 1 <= grain <= _MOST_GRAIN or grain & (grain - 1) or not 1 <= entries <= _ENTRIES:
        raise _damaged(f"grains of {grain} sectors, {entries} in a table")
    length = -(-header.capacity // (grain * entries)) * 4
    if length > _MOST_DIRECTORY:
        raise _damaged(f"a grain directory of {length} bytes")
    require_inside(source, "its grain directory", header.directory_at * SECTOR, length)
    if header.directory_at <= _DESCRIPTOR_AT:
        raise _damaged("its grain directory lies in its header")


def _damaged(says: str) -> Corrupt:
    return Corrupt(
        f"its header is damaged ({says}); restore the image from a backup, or export it again"
    )
