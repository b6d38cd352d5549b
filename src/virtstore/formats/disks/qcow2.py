"""A qcow2, versions 2 and 3: what its header (`qcow2_header`) may ask for, and what it may name.

Encryption, features that are not known here and other files with data are refused, and so are
tables (`qcow2_tables`) that cannot be where the header says. The backing file is told of.

Source: QEMU's docs/interop/qcow2.txt; what QEMU takes for absurd, its block/qcow2.h.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import (
    SECTOR,
    VirtualDisk,
    converted,
    fields,
    require_inside,
    require_size,
)
from virtstore.formats.disks.qcow2_header import (
    COMPRESSION,
    CORRUPT,
    DATA_FILE,
    DIRTY,
    EXTENDED_L2,
    Header,
    damaged,
    read_extensions,
    read_header,
)
from virtstore.formats.disks.qcow2_tables import (
    Table,
    bitmap_names,
    require_l1,
    require_table,
    snapshot_names,
)
from virtstore.text import printable

_MOST_REFCOUNT_TABLE: Final = 8 << 20
_MOST_PATH: Final = 1023

_KNOWN: Final = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
_BITMAPS_ARE_VALID, _DATA_FILE_IS_RAW = 1, 2
_ZSTD: Final = 1

_BACKING_FORMAT: Final = 0xE2792ACA
_BITMAPS: Final = 0x23852875
_ENCRYPTION: Final = 0x0537BE77
_DATA_FILE_NAME: Final = 0x44415441


def examine_qcow2(source: ArchiveSource) -> VirtualDisk:
    """What the header of a qcow2 says (`disks.examine`)."""
    header = read_header(source)
    extensions = read_extensions(source, header)
    _refuse_features(source, header, extensions)
    require_size(header.size)
    _require_whole_sectors(header.size)
    _require_tables(source, header)
    return VirtualDisk(
        "qcow2",
        header.size,
        header.cluster_size,
        _backing(source, header),
        _backing_format(extensions),
        snapshot_names(source, header.snapshots_offset, header.snapshots, header.cluster_size),
        _bitmaps(source, header, extensions),
    )


def _refuse_features(source: ArchiveSource, header: Header, extensions: dict[int, bytes]) -> None:
    if header.encryption or _ENCRYPTION in extensions:
        raise Unsupported(_encrypted(header.encryption))
    features = header.incompatible
    if features & DATA_FILE:
        raise Unsupported(_elsewhere(extensions.get(_DATA_FILE_NAME, b"")))
    if header.autoclear & _DATA_FILE_IS_RAW:
        raise damaged("that its data file is raw, and that it has none")
    if unknown := features & ~_KNOWN:
        raise Unsupported(_unknown(unknown))
    _require_compression(source, header)
    if features & CORRUPT:
        raise Corrupt(
            "QEMU found its tables damaged and marked it so (its corrupt bit). Copy the file"
            " (`cp --sparse=always FILE FILE.damaged`), then `qemu-img check -r all FILE` mends"
            " what can be mended; or restore it from a backup"
        )
    if features & DIRTY:
        raise Corrupt(
            "its dirty bit is set: a program has it open with lazy reference counts, or died with"
            " it. Once nobody uses it, `qemu-img check -r all FILE` makes its counts right"
        )


def _encrypted(method: int) -> str:
    how = {1: "AES", 2: "LUKS"}.get(method, f"method {method}")
    return (
        f"it is encrypted ({how}), and virtstore is given no keys. With its key,"
        " `qemu-img convert --object secret,id=key,file=KEYFILE --image-opts"
        " driver=qcow2,encrypt.key-secret=key,file.filename=FILE -O qcow2 NEW.qcow2` makes a plain"
        " one. Encryption inside the guest is no obstacle"
    )


def _elsewhere(name: bytes) -> str:
    told = printable(name[:_MOST_PATH]) or "it does not say which"
    return (
        f"its data is in another file ({told}), and virtstore opens none for it. If that file"
        f" belongs to it, {converted('qcow2')} makes one file of both"
    )


def _unknown(features: int) -> str:
    bits = ", ".join(str(bit) for bit in range(64) if features >> bit & 1)
    return (
        f"it needs features that are not known here (incompatible bits {bits});"
        f" {converted('qcow2')} with the QEMU that made it makes one without them. If no QEMU has"
        " them, its header is damaged"
    )


def _require_compression(source: ArchiveSource, header: Header) -> None:
    stated = header.length > 104
    kind = fields(source, 104, ">B")[0] if stated else 0
    if bool(kind) != bool(header.incompatible & COMPRESSION):
        raise damaged(f"compression of type {kind}, and its bit for that says otherwise")
    if kind > _ZSTD:
        raise Unsupported(
            f"its clusters are compressed in a way that is not known here (type {kind});"
            f" {converted('qcow2')} with the QEMU that made it makes one that is not compressed"
        )


def _require_whole_sectors(size: int) -> None:
    if size % SECTOR:
        raise damaged(f"that the disk has {size} bytes, which are no whole sectors")


def _require_tables(source: ArchiveSource, header: Header) -> None:
    l1 = Table("its L1 table", header.l1_offset, header.l1_entries * 8)
    require_l1(source, l1, header.cluster_size)
    if header.l1_entries * header.l1_coverage < header.size:
        raise damaged(
            f"that its L1 table has {header.l1_entries} entries, too few for {header.size} bytes"
        )
    length = header.refcounts_clusters * header.cluster_size
    if length == 0:
        raise damaged("that it has no reference counts")
    refcounts = Table("its refcount table", header.refcounts_offset, length)
    require_table(source, refcounts, header.cluster_size, _MOST_REFCOUNT_TABLE)


_PROTOCOL: Final = re.compile(r"[^/]*?:")


def _backing(source: ArchiveSource, header: Header) -> str | None:
    """The path of the backing file; a name that QEMU takes for something else is refused."""
    offset, length = header.backing_offset, header.backing_length
    if offset == 0 or (length == 0 and offset <= header.cluster_size):
        return None
    if length > _MOST_PATH or offset < header.length or offset + length > header.cluster_size:
        raise damaged(f"that its backing file's name has {length} bytes, at byte {offset}")
    require_inside(source, "its backing file's name", offset, length)
    name = source.read_at(offset, length)
    try:
        path = name.decode()
    except UnicodeDecodeError:
        path = "\0"
    if not path.isprintable():
        raise Unsupported(f"its backing file's name ({printable(name)!r}) is no text; {_REBASE}")
    if _PROTOCOL.match(path):
        raise Unsupported(f"its backing file is no path on this host ({path}); {_REBASE}")
    return path


_REBASE: Final = (
    "where that image is at a path of this host too, `qemu-img rebase -u -f qcow2 -b PATH -F FORMAT"
    f" FILE` names that instead, and changes nothing else; {converted('qcow2')} makes a whole image"
)


def _backing_format(extensions: dict[int, bytes]) -> str | None:
    word = extensions.get(_BACKING_FORMAT, b"")
    if not word:
        return None
    if not re.fullmatch(rb"[a-z0-9_-]{1,15}", word):
        raise damaged(f"that its backing file is of the format {printable(word[:40])!r}")
    return word.decode()


def _bitmaps(
    source: ArchiveSource, header: Header, extensions: dict[int, bytes]
) -> tuple[str, ...]:
    """The names of persistent bitmaps; none where a writer that knows none has been here."""
    data = extensions.get(_BITMAPS)
    if data is None or not header.autoclear & _BITMAPS_ARE_VALID:
        return ()
    if len(data) != 24:
        raise damaged(f"what bitmaps there are in {len(data)} bytes, and that takes 24")
    count, _, length, offset = struct.unpack(">IIQQ", data)
    return bitmap_names(
        source, Table("its bitmap directory", offset, length), count, header.cluster_size
    )
