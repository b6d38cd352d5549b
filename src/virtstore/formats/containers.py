"""Containers: files that hold a disk in a format of their own (qcow2, vmdk, vdi, vhd, vhdx, …).

virtstore does not read what is in them. It recognises them, by their header or their footer, so
that none is taken for a raw image: cut, lengthened, or copied to where its bytes mean nothing.
What is told of one is read from fixed places, bounded in length, and never followed: a guest can
have written it into its own raw disk.

Sources: QEMU's docs/interop (qcow2.txt, qed_spec.txt, parallels.txt) and block/*.c; VMware's
Virtual Disk Format 5.0; Microsoft's Virtual Hard Disk Image Format Specification and [MS-VHDX];
VirtualBox's VDICore.h.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from virtstore.formats.base import ArchiveSource
from virtstore.model import ContainerFormat
from virtstore.units import MAX_SIZE

_HEAD: Final = 512
_SECTOR: Final = 512
#: What a path in a header may have (qcow2's own limit), and a descriptor of VMware's.
_MOST_PATH: Final = 1023
_MOST_TEXT: Final = 64 << 10


class Container(NamedTuple):
    """What a container says of itself. `size`: bytes of its disk, None where that is not told.
    `backing`: the path of the image that it is laid over. `needs`: what else has to be there
    for its disk to be whole, so that its bytes alone are no copy of it."""

    format: ContainerFormat
    size: int | None = None
    backing: str | None = None
    needs: str | None = None


def detect(source: ArchiveSource) -> Container | None:
    """What container `source` is; None for everything else. Damage behind its magic number does
    not keep it from being recognised."""
    head = _read(source, 0, _HEAD).ljust(_HEAD, b"\0")
    for offset, magic, read in _HEADS:
        if head.startswith(magic, offset):
            return _bounded(read(source, head))
    if _DESCRIPTOR.match(head):
        return _bounded(_vmdk_descriptor(source))
    return _by_footer(source)


def _by_footer(source: ArchiveSource) -> Container | None:
    # A VHD that Virtual PC 2004 made may end one byte earlier.
    for length in (_SECTOR, _SECTOR - 1):
        if source.size >= length:
            foot = _read(source, source.size - length, length).ljust(_SECTOR, b"\0")
            if foot.startswith(_VHD):
                return _bounded(_vhd(source, foot))
            if foot.startswith(_KOLY):
                return _bounded(Container("dmg", _at(">Q", foot, 0x1EC) * _SECTOR))
    return None


def _bounded(found: Container) -> Container:
    possible = found.size is not None and 0 < found.size <= MAX_SIZE
    return found if possible else found._replace(size=None)


def _overlay(backing: str | None) -> str:
    return f"the image that it is an overlay of ({backing or 'it does not say which by name'})"


def _at(form: str, data: bytes, offset: int) -> int:
    value: int = struct.unpack_from(form, data, offset)[0]
    return value


def _read(source: ArchiveSource, offset: int, length: int) -> bytes:
    """As much of that as there is: an offset is whatever a guest wrote."""
    return source.read_at(offset, length) if offset < source.size else b""


def _text(data: bytes, encoding: str = "utf-8") -> str | None:
    return data.decode(encoding, "replace").partition("\0")[0] or None


def _path(source: ArchiveSource, offset: int, length: int) -> str | None:
    return _text(_read(source, offset, min(length, _MOST_PATH))) if offset else None


def _qcow(source: ArchiveSource, head: bytes) -> Container:
    version = _at(">I", head, 4)
    size = _at(">Q", head, 24)
    backing = _path(source, _at(">Q", head, 8), _at(">I", head, 16))
    needs = _overlay(backing) if _at(">Q", head, 8) else None
    if version == 1:
        return Container("qcow", size, backing, needs)
    if version >= 3 and _at(">Q", head, 72) & 4:
        needs = needs or f"the file with its data ({_qcow2_data_file(source, head)})"
    return Container("qcow2", size, backing, needs)


def _qcow2_data_file(source: ArchiveSource, head: bytes) -> str:
    """The name that a header extension says, of at most 64 extensions."""
    at = _at(">I", head, 100)
    for _ in range(64):
        kind, length = struct.unpack(">II", _read(source, at, 8).ljust(8, b"\0"))
        if kind == 0x44415441:
            return _path(source, at + 8, length) or "it has no name"
        if kind == 0 or length > _MOST_TEXT:
            break
        at += 8 + length + -length % 8
    return "it does not say which"


def _qed(source: ArchiveSource, head: bytes) -> Container:
    backing = None
    if overlay := _at("<Q", head, 16) & 1:
        backing = _path(source, _at("<I", head, 56), _at("<I", head, 60))
    return Container("qed", _at("<Q", head, 48), backing, _overlay(backing) if overlay else None)


_DESCRIPTOR: Final = re.compile(rb"# *disk *descriptorfile|(?:#[^\n]*\n|[ \r\n])*version=\d", re.I)
_PARENT: Final = re.compile(r'^parentFileNameHint\s*=\s*"([^"\n]*)"', re.I | re.M)
_PARENT_ID: Final = re.compile(r"^parentCID\s*=\s*(?!ffffffff)[0-9a-f]+", re.I | re.M)
_EXTENT: Final = re.compile(r'^(?:RW|RDONLY|NOACCESS)\s+(\d+)\s+\w+\s+"([^"\n]*)"', re.M)
_PART: Final = "the descriptor file that puts the disk together, and its other parts"


def _vmdk_sparse(source: ArchiveSource, head: bytes) -> Container:
    size = _at("<Q", head, 12) * _SECTOR
    where, length = _at("<Q", head, 28) * _SECTOR, _at("<Q", head, 36) * _SECTOR
    text = _descriptor(source, where, length) if 0 < where < source.size else ""
    if not _EXTENT.search(text):
        return Container("vmdk", size, None, _PART)
    backing = _parent(text)
    return Container("vmdk", size, backing, _overlay(backing) if _is_overlay(text) else None)


def _vmdk_descriptor(source: ArchiveSource) -> Container:
    text = _descriptor(source, 0, source.size)
    extents = _EXTENT.findall(text)
    size = sum(int(sectors[:20]) for sectors, _ in extents) * _SECTOR
    names = ", ".join(name for _, name in extents[:3]) or "it does not say which"
    needs = f"the files with its data ({names[:_MOST_PATH]})"
    return Container("vmdk", size, _parent(text), needs)


def _vmdk_part(source: ArchiveSource, head: bytes) -> Container:
    return Container("vmdk", None, None, _PART)


def _descriptor(source: ArchiveSource, offset: int, length: int) -> str:
    return _text(_read(source, offset, min(length, _MOST_TEXT))) or ""


def _parent(text: str) -> str | None:
    found = _PARENT.search(text)
    return found[1][:_MOST_PATH] if found else None


def _is_overlay(text: str) -> bool:
    return bool(_PARENT.search(text) or _PARENT_ID.search(text))


def _vdi(source: ArchiveSource, head: bytes) -> Container:
    kind, parent = _at("<I", head, 0x4C), head[0x1A8:0x1B8].strip(b"\0")
    needs = _overlay(None) if kind == 4 or (kind not in (1, 2) and parent) else None
    return Container("vdi", _at("<Q", head, 0x170), None, needs)


_VHD: Final = b"conectix"
_KOLY: Final = b"koly\0\0\0\4"
_DIFFERENCING: Final = 4


def _vhd(source: ArchiveSource, foot: bytes) -> Container:
    size = _at(">Q", foot, 48)
    if _at(">I", foot, 60) != _DIFFERENCING:
        return Container("vhd", size)
    header = _read(source, min(_at(">Q", foot, 16), MAX_SIZE), 1024).ljust(1024, b"\0")
    backing = _text(header[64:576], "utf-16-be") if header.startswith(b"cxsparse") else None
    return Container("vhd", size, backing, _overlay(backing))


_REGIONS_AT: Final = 192 << 10
_METADATA: Final = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
FILE_PARAMETERS: Final = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
VHDX_SIZE: Final = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_PARENT_LOCATOR: Final = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
HAS_PARENT: Final = 2
_MOST_ENTRIES: Final = 64


def _vhdx(source: ArchiveSource, head: bytes) -> Container:
    items = dict(vhdx_metadata(source))
    size = items.get(VHDX_SIZE, b"").ljust(8, b"\0")
    parameters = items.get(FILE_PARAMETERS, b"").ljust(8, b"\0")
    if not _at("<I", parameters, 4) & HAS_PARENT:
        return Container("vhdx", _at("<Q", size, 0))
    backing = _vhdx_parent(items.get(_PARENT_LOCATOR, b""))
    return Container("vhdx", _at("<Q", size, 0), backing, _overlay(backing))


def vhdx_metadata(source: ArchiveSource) -> Iterator[tuple[bytes, bytes]]:
    """The items of the metadata region, by their GUIDs, each as far as `_MOST_TEXT`."""
    regions = _entries(source, _REGIONS_AT, 16, 8, b"regi")
    region = next((_at("<Q", e, 16) for e in regions if e.startswith(_METADATA)), 0)
    if not 0 < region < source.size:
        return
    for entry in _entries(source, region, 32, 10, b"metadata"):
        length = min(_at("<I", entry, 20), _MOST_TEXT)
        yield entry[:16], _read(source, region + _at("<I", entry, 16), length)


def _entries(
    source: ArchiveSource, at: int, header: int, count_at: int, magic: bytes
) -> Iterator[bytes]:
    """The entries of 32 bytes of a table; none where it does not begin with `magic`."""
    table = _read(source, at, header + 32 * _MOST_ENTRIES)
    if not table.startswith(magic) or len(table) < header:
        return
    count = _at("<H", table, count_at)
    for start in range(header, header + 32 * min(count, _MOST_ENTRIES), 32):
        if len(entry := table[start : start + 32]) == 32:
            yield entry


def _vhdx_parent(locator: bytes) -> str | None:
    """The parent's path, of whatever kind the locator has one."""
    found: dict[str | None, str | None] = {}
    if len(locator) >= 20:
        for start in range(20, 20 + 12 * min(_at("<H", locator, 18), _MOST_ENTRIES), 12):
            if len(entry := locator[start : start + 12]) == 12:
                key, value, key_size, value_size = struct.unpack("<IIHH", entry)
                name = _text(locator[key : key + key_size], "utf-16-le")
                found[name] = _text(locator[value : value + value_size], "utf-16-le")
    keys = ("relative_path", "absolute_win32_path", "volume_path")
    path = next((found[key] for key in keys if found.get(key)), None)
    return path[:_MOST_PATH] if path else None


def _parallels(source: ArchiveSource, head: bytes) -> Container:
    old = head.startswith(b"WithoutFreeSpace")
    return Container("parallels", _at("<I" if old else "<Q", head, 36) * _SECTOR)


def _cloop(source: ArchiveSource, head: bytes) -> Container:
    return Container("cloop", _at(">I", head, 128) * _at(">I", head, 132))


def _bochs(source: ArchiveSource, head: bytes) -> Container:
    """Version 2 has a reserved word before the size."""
    return Container("bochs", _at("<Q", head, 84 if _at("<I", head, 64) == 0x10000 else 88))


_Reader = Callable[[ArchiveSource, bytes], Container]
_HEADS: Final[tuple[tuple[int, bytes, _Reader], ...]] = (
    (0, b"QFI\xfb", _qcow),
    (0, b"QED\0", _qed),
    (0, b"KDMV", _vmdk_sparse),
    (0, b"COWD", _vmdk_part),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0\1\0\0\0\2\0\0\0", _vmdk_part),  # ESX: SE sparse
    (0x40, b"\x7f\x10\xda\xbe", _vdi),
    (0, _VHD, _vhd),
    (0, b"vhdxfile", _vhdx),
    (0, b"WithoutFreeSpace", _parallels),
    (0, b"WithouFreSpacExt", _parallels),
    (0, b"encrcdsa", lambda source, head: Container("dmg")),
    (0, b"Bochs Virtual HD Image", _bochs),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", _cloop),
)
