"""An NTFS volume's size and state: the few fields that resizing depends on.

ntfsresize leaves a volume marked for chkdsk, with its journal emptied and without the copy
of the boot sector that belongs behind its clusters. Of a guest that went down uncleanly one of
the three is not so: Windows begins its journal before anything else, Linux's ntfs3 empties it
but has the copy, ntfs-3g never marks a volume, and ntfsfix makes the copy. So a mark with these
two signs is ntfsresize's, and the volume can be resized again. (Given a size in bytes it does
write a copy, into the last sector of that size, which with clusters as small as a sector is the
right place. Given one in KiB it never does.) In doubt the mark is the guest's: where such a
volume gets back a size that it had, and finds its old copy there.

Source: ntfs-3g's layout.h (NTFS_BOOT_SECTOR, MFT_RECORD, ATTR_RECORD, VOLUME_INFORMATION).
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from virtstore.filesystems.base import Device
from virtstore.units import MAX_SIZE

_SECTOR: Final = 512  # of update sequences, and at least of everything else
_SECTOR_SIZES: Final = (512, 1024, 2048, 4096)
_CLUSTER_SIZES: Final = tuple(512 << shift for shift in range(13))
_RECORD_SIZES: Final = (1024, 2048, 4096)

_LOGFILE: Final = 2  # numbers of MFT records
_VOLUME: Final = 3
_VOLUME_INFORMATION: Final = 0x70  # types of attributes
_DATA: Final = 0x80
_END: Final = 0xFFFFFFFF

_DIRTY: Final = 0x1
#: Also: deleting its change journal, being checked. It has to be mounted to end either.
_UNCLEAN: Final = _DIRTY | 0x10 | 0x4000
_EMPTY_LOG: Final = b"\xff" * 4096


class Volume(msgspec.Struct, frozen=True):
    """`size` counts the copy of the boot sector behind the `clusters`. `marked`: for chkdsk, by
    whomever; `resized`: by ntfsresize, and not used since."""

    cluster_size: int
    clusters: int
    size: int
    marked: bool
    resized: bool


class _Boot(msgspec.Struct, frozen=True):
    sector_size: int
    cluster_size: int
    sectors: int
    mft: int
    record_size: int

    @property
    def size(self) -> int:
        return (self.sectors + 1) * self.sector_size


def read_volume(device: Device) -> Volume | None:
    """What is on the device; None where there is no NTFS, or none that can be true."""
    try:
        boot = _boot(device.read(0, _SECTOR))
        if boot is None:
            return None
        flags = _flags(_attribute(_record(device, boot, _VOLUME), _VOLUME_INFORMATION))
        resized = flags & _UNCLEAN == _DIRTY and _log_is_empty(device, boot)
    except (struct.error, ValueError, IndexError):
        return None
    copied = device.read(boot.sectors * boot.sector_size, _SECTOR) == device.read(0, _SECTOR)
    return Volume(
        cluster_size=boot.cluster_size,
        clusters=boot.sectors * boot.sector_size // boot.cluster_size,
        size=boot.size,
        marked=bool(flags & _UNCLEAN),
        resized=resized and not copied,
    )


def read_size(device: Device) -> int | None:
    """Bytes of the volume on the device, by its boot sector alone; None as `read_volume`."""
    try:
        boot = _boot(device.read(0, _SECTOR))
    except (struct.error, ValueError):
        return None
    return boot.size if boot else None


def _boot(raw: bytes) -> _Boot | None:
    sector_size, clusters = struct.unpack_from("<HB", raw, 0x0B)
    sectors, mft = struct.unpack_from("<QQ", raw, 0x28)
    (record,) = struct.unpack_from("<b", raw, 0x40)
    # Numbers above 128, or below 0, are powers of two: of sectors, of bytes.
    cluster_size = sector_size * (clusters if clusters <= 0x80 else 1 << 0x100 - clusters)
    record_size = record * cluster_size if record > 0 else 1 << -record
    if (
        raw[3:7] != b"NTFS"
        or sector_size not in _SECTOR_SIZES
        or cluster_size not in _CLUSTER_SIZES
        or record_size not in _RECORD_SIZES
        or not 0 < sectors < MAX_SIZE // sector_size
        or not 0 < mft < sectors * sector_size // cluster_size
    ):
        return None
    return _Boot(sector_size, cluster_size, sectors, mft, record_size)


def _record(device: Device, boot: _Boot, number: int) -> bytes:
    """A record of the MFT's first 16, which are in one piece. The last two bytes of each
    sector are elsewhere, in its update sequence."""
    start = boot.mft * boot.cluster_size + number * boot.record_size
    raw = bytearray(device.read(start, boot.record_size))
    offset, count = struct.unpack_from("<HH", raw, 4)
    if raw[:4] != b"FILE" or count != boot.record_size // _SECTOR + 1:
        raise ValueError("not a record of the MFT")
    check, *ends = struct.unpack_from(f"<{count}H", raw, offset)
    for end, kept in enumerate(ends, start=1):
        if struct.unpack_from("<H", raw, end * _SECTOR - 2) != (check,):
            raise ValueError("a record of the MFT that was not wholly written")
        struct.pack_into("<H", raw, end * _SECTOR - 2, kept)
    return bytes(raw)


def _attribute(record: bytes, kind: int) -> bytes:
    """The record's first attribute of this type, header and all."""
    (offset,) = struct.unpack_from("<H", record, 0x14)
    while True:
        found, length = struct.unpack_from("<II", record, offset)
        if found == kind:
            return record[offset : offset + length]
        if found == _END or length == 0:
            raise ValueError("no such attribute")
        offset += length


def _flags(attribute: bytes) -> int:
    (offset,) = struct.unpack_from("<H", attribute, 0x14)
    flags: int = struct.unpack_from("<H", attribute, offset + 10)[0]
    return flags


def _log_is_empty(device: Device, boot: _Boot) -> bool:
    """Whether the journal has no restart page, with which every use by Windows begins it."""
    attribute = _attribute(_record(device, boot, _LOGFILE), _DATA)
    (offset,) = struct.unpack_from("<H", attribute, 0x20)
    # The first run: a byte with the lengths of what follows, its length, its first cluster.
    lengths = attribute[offset] if attribute[8] else 0
    first = attribute[offset + 1 + lengths % 16 :][: lengths >> 4]
    cluster = int.from_bytes(first, "little", signed=True)
    return cluster > 0 and device.read(cluster * boot.cluster_size, 4096) == _EMPTY_LOG
