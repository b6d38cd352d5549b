"""What is on a device: a file system, partitions, or nothing that is known.

An image is hostile input, and `info` and `list` have to answer whatever it contains: the
worst that contents lead to is "not recognised" and a warning. What must not be cut is
another matter. `end_of_contents` says it only where everything that was seen could be
measured, so that doubt keeps a shrink from happening.

What blkid calls LVM2_member or crypto_LUKS is named and not opened. Partition tables are
read here (partitions.py); those of a kind that is not read leave the image unmeasured.

Host tools needed: blkid.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec

from virtstore.errors import Error
from virtstore.filesystems import blkid
from virtstore.filesystems.base import Device
from virtstore.filesystems.blank import is_blank
from virtstore.filesystems.blkid import Probe
from virtstore.filesystems.claims import claimed_end, missing, remarks
from virtstore.filesystems.partitions.change import KINDS, Table, is_container, read_table
from virtstore.filesystems.partitions.disklabels import disklabel
from virtstore.filesystems.superblock import filesystem_size
from virtstore.model import Filesystem, Partition

#: A GPT has 128 entries unless somebody means harm; no more partitions are looked into.
_MOST_PROBED: Final = 128
_NOT_READ: Final = "its partition table ({}) is of a kind that virtstore does not read"


class Contents(msgspec.Struct, frozen=True):
    """What was recognised. `measured` is false where something is there whose extent could
    not be told; `warnings` say what and why, for a person."""

    filesystem: Filesystem | None = None
    partitions: tuple[Partition, ...] = ()
    warnings: tuple[str, ...] = ()
    measured: bool = True
    table: Table | None = None


def detect(device: Device) -> Contents:
    """What is on `device` and in its partitions. Raises `Unsupported` without blkid, and
    `OSError` for an I/O error; nothing that the device contains makes it raise."""
    return _contents(device, blkid.NOTHING if is_blank(device) else blkid.probe(device))


def detect_many(devices: Sequence[Device]) -> list[Contents]:
    """`detect` for many devices, which are whole images: hundreds at the most, since one process
    gets a descriptor of each. A blank image costs no process, the others share one, and each
    partition that is not blank takes one more."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        answers = [
            # Processes for its partitions: several at a time.
            pool.submit(_contents_as_far_as_read, device, found).result
            if found.table
            else partial(_contents_as_far_as_read, device, found)
            for device, found in zip(devices, _probe_all(devices), strict=True)
        ]
        return [answer() for answer in answers]


def end_of_contents(contents: Contents) -> int | None:
    """The byte before which nothing may be cut: the end of the last file system and of the last
    partition, 0 where nothing was recognised; None where it cannot be told, and then
    nothing at all may be cut.

    What lies behind it is not covered: data that nobody recognises (to be found by reading
    it), and the backup of a GPT at the end (`Table.smallest_disk` counts that in).
    """
    if not contents.measured:
        return None
    ends = [claimed_end(partition) for partition in contents.partitions]
    if contents.filesystem:
        if contents.filesystem.size is None:
            return None
        ends.append(contents.filesystem.size)
    return max(ends, default=0)


def _probe_all(devices: Sequence[Device]) -> list[Probe]:
    known = [_known_without_blkid(device) for device in devices]
    probes = blkid.probe_many([d for d, k in zip(devices, known, strict=True) if k is None])
    return [next(probes) if probe is None else probe for probe in known]


def _known_without_blkid(device: Device) -> Probe | None:
    """What is known of a device that is blank or cannot be read; None for any other."""
    try:
        return blkid.NOTHING if is_blank(device) else None
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> Probe:
    return Probe(warning=f"it cannot be read: {error.strerror}")


def _contents_as_far_as_read(device: Device, probe: Probe) -> Contents:
    """As `_contents`, but an I/O error is a warning: one of many images that cannot be read does
    not hide the others."""
    try:
        return _contents(device, probe)
    except OSError as error:
        return _contents(device, _unreadable(error))


def _contents(device: Device, probe: Probe) -> Contents:
    filesystem = _filesystem(device, probe)
    warnings = [probe.warning] if probe.warning else []
    if filesystem and (filesystem.size or 0) > device.size:
        warnings.append(
            missing(f"its {filesystem.type} file system", filesystem.size or 0, device.size)
        )
    found = Contents(filesystem, warnings=tuple(warnings), measured=not probe.warning)
    if probe.table:
        found = _with_partitions(device, probe.table, found)
    return found if probe.table == "gpt" else _with_disklabel(device, found)


def _with_disklabel(device: Device, found: Contents) -> Contents:
    """`found`, with what else there may be: an MBR in front of another label is often a part of
    that. A file system without a table may lie upon one that is left of old."""
    if (found.filesystem and not found.table) or not found.measured:
        return found
    kind = disklabel(device)
    if kind is None:
        return found
    warnings = (*found.warnings, _NOT_READ.format(kind))
    return msgspec.structs.replace(found, warnings=warnings, measured=False)


def _filesystem(device: Device, probe: Probe) -> Filesystem | None:
    if probe.type is None:
        return None
    size = filesystem_size(probe.type, device)
    return Filesystem(type=probe.type, uuid=probe.uuid, label=probe.label, size=size)


def _with_partitions(device: Device, kind: str, found: Contents) -> Contents:
    warnings = list(found.warnings)
    if kind not in KINDS:
        warnings.append(_NOT_READ.format(kind))
        return Contents(found.filesystem, (), tuple(warnings), measured=False)
    try:
        table = read_table(device)
    except Error as error:
        warnings.append(error.message)
        return Contents(found.filesystem, (), tuple(warnings), measured=False)
    warnings += table.warnings
    partitions = _partitions(device, table, warnings)
    warnings += remarks(partitions, device.size)
    measured = found.measured and table.measured
    return Contents(found.filesystem, partitions, tuple(warnings), measured, table)


def _partitions(device: Device, table: Table, warnings: list[str]) -> tuple[Partition, ...]:
    partitions = table.partitions
    if len(partitions) > _MOST_PROBED:
        warnings.append(f"only {_MOST_PROBED} of {len(partitions)} partitions were looked into")
    looked_into = tuple(_inside(device, p, warnings) for p in partitions[:_MOST_PROBED])
    return looked_into + partitions[_MOST_PROBED:]


def _inside(device: Device, partition: Partition, warnings: list[str]) -> Partition:
    """`partition` with the file system that is in it."""
    part = device.part(partition.start, partition.size)
    if part.size <= 0 or is_container(partition) or is_blank(part):
        return partition
    probe = blkid.probe(part)
    if probe.warning:
        warnings.append(f"partition {partition.number}: {probe.warning}")
    return msgspec.structs.replace(partition, filesystem=_filesystem(part, probe))
