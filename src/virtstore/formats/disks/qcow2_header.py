"""The header of a qcow2, versions 2 and 3: its fixed fields and its extensions.

Big-endian fields from byte 0, then extensions (type, length, data), and the path of the backing
file, all in the first cluster.

Source: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import converted, fields, not_one, read

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))

_MAGIC: Final = b"QFI\xfb"
_CLUSTER_BITS: Final = range(9, 22)
_MOST_REFCOUNT_ORDER: Final = 6
#: An extended L2 entry has 32 subclusters, each of a sector at least.
_LEAST_EXTENDED_BITS: Final = 14
_MOST_EXTENSIONS: Final = 64 << 10


class Header(NamedTuple):
    """The fixed fields, in the order in which they lie; those of version 3 as version 2 means
    them where it has none."""

    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcounts_offset: int
    refcounts_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = 72

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l1_coverage(self) -> int:
        """Bytes of the disk that one entry of the L1 table stands for: a cluster of L2 entries."""
        entry = 16 if self.incompatible & EXTENDED_L2 else 8
        return self.cluster_size // entry * self.cluster_size


def read_header(source: ArchiveSource) -> Header:
    """The fixed fields. Raises `Corrupt` or `Unsupported` where the rest cannot be read by them."""
    if source.read_at(0, len(_MAGIC)) != _MAGIC:
        raise not_one("qcow2")
    header = Header(*fields(source, 4, ">IQIIQIIQQIIQ"))
    _require_version(header.version)
    if header.version == 3:
        header = Header(*header[:12], *fields(source, 72, ">QQQII"))
    _require_layout(header)
    return header


def _require_version(version: int) -> None:
    if version == 1:
        raise Unsupported(
            "it is a qcow of version 1, as QEMU wrote it before 2008;"
            " `qemu-img convert -f qcow -O qcow2 FILE NEW.qcow2` makes a qcow2 of it"
        )
    if version not in (2, 3):
        raise Unsupported(
            f"it is a qcow2 of version {version}, and versions 2 and 3 are known here;"
            f" {converted('qcow2')} with the QEMU that made it makes one of version 3. If no QEMU"
            " has such a version, its header is damaged"
        )


def _require_layout(header: Header) -> None:
    if header.cluster_bits not in _CLUSTER_BITS:
        raise damaged(f"clusters of 2^{header.cluster_bits} bytes, and there are 2^9 to 2^21")
    least = 104 if header.version == 3 else 72
    if not least <= header.length <= header.cluster_size or header.length % 8:
        raise damaged(f"that it is {header.length} bytes long itself")
    if header.refcount_order > _MOST_REFCOUNT_ORDER:
        raise damaged(f"reference counts of 2^{header.refcount_order} bits, and 2^6 are the most")
    if header.incompatible & EXTENDED_L2 and header.cluster_bits < _LEAST_EXTENDED_BITS:
        raise damaged(f"subclusters in clusters of only {header.cluster_size} bytes")


def damaged(says: str) -> Corrupt:
    """The error for a header that says what cannot be."""
    return Corrupt(f"its header says {says}: it is damaged; restore the image from a backup")


def read_extensions(source: ArchiveSource, header: Header) -> dict[int, bytes]:
    """The header's extensions, by their types; of one type the last counts, as for QEMU."""
    end = min(header.backing_offset or header.cluster_size, header.cluster_size, source.size)
    data = read(source, 0, min(end, _MOST_EXTENSIONS))
    found: dict[int, bytes] = {}
    at = header.length
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if at + 8 + length > len(data):  # also of the one that ends them, as QEMU has it
            raise damaged(f"that an extension of it has {length} bytes")
        if kind == 0:
            break
        found[kind] = data[at + 8 : at + 8 + length]
        at += 8 + length + -length % 8
    return found
