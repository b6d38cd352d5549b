"""Which partition of a disk is meant where nobody names one, and what lies behind it.

A disk often ends with a partition that is not what its owner wants to resize: swap, Windows'
recovery tools, a boot loader's few megabytes. So the last one is taken that has a file system
which can grow; one that serves the machine only where there is no other.

Sources: systemd's Discoverable Partitions Specification and `sfdisk --list-types` for the types.
"""

from __future__ import annotations

from typing import Final

from virtstore.errors import NotFound
from virtstore.filesystems.partitions.table import LINUX_SWAP, end_of, is_container
from virtstore.filesystems.registry import can_grow
from virtstore.model import Partition
from virtstore.units import format_size

#: Types of partitions that serve the machine: an MBR id, or a GPT type GUID.
_SERVING: Final = {
    "12": "recovery",
    "27": "Windows recovery",
    "41": "PReP boot",
    "82": "swap",
    "84": "hibernation",
    "a0": "hibernation",
    "de": "Dell utility",
    "ea": "extended boot loader",
    "ef": "EFI system",
    LINUX_SWAP: "swap",
    "21686148-6449-6E6F-744E-656564454649": "BIOS boot",
    "426F6F74-0000-11AA-AA11-00306543ECAC": "Apple boot",
    "49F48D32-B10E-11DC-B99B-0019D1879648": "NetBSD swap",
    "516E7CB5-6ECF-11D6-8FF8-00022D09712B": "FreeBSD swap",
    "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3": "Windows LDM metadata",
    "83BD6B9D-7F41-11DC-BE0B-001560B84F0F": "FreeBSD boot",
    "9E1A2D38-C612-4316-AA26-8B49521E5A8B": "PReP boot",
    "BC13C2FF-59E6-4262-A352-B275FD6F7172": "extended boot loader",
    "BFBFAFE7-A34F-448A-9A5B-6213EB736C22": "Lenovo boot",
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI system",
    "D3BFE2DE-3DAF-11DF-BA40-E3A556D89593": "hibernation",
    "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC": "Windows recovery",
    "E3C9E316-0B5C-4DB8-817D-F92DF00215AE": "Microsoft reserved",
    "F4019732-066E-4E12-8273-346C5641494F": "Sony boot",
}
#: What only the guest can grow, but is meant all the same.
OF_THE_GUEST: Final = frozenset({"crypto_LUKS", "LVM2_member"})
_SWAP: Final = frozenset({"swap", "swsuspend"})


def meant(partitions: tuple[Partition, ...]) -> Partition:
    """The partition that a resize is about if nobody names one. Raises `NotFound` where there is
    none at all."""
    found = [p for p in partitions if not is_container(p)]
    if not found:
        raise NotFound("its partition table is empty: there is no partition to resize")
    return max(found, key=lambda p: (_worth(p), end_of(p)))


def _worth(partition: Partition) -> int:
    """How likely somebody wants to resize a partition. Among equals the last one is meant."""
    kind = partition.filesystem.type if partition.filesystem else None
    if partition.type in _SERVING or kind in _SWAP:
        return 1 if can_grow(kind) else 0
    return 3 if can_grow(kind) or kind in OF_THE_GUEST else 2 if kind else 0


def behind(chosen: Partition, partitions: tuple[Partition, ...]) -> tuple[Partition, ...]:
    """The partitions between `chosen` and the end of the disk, in their order."""
    found = [p for p in partitions if p.start >= end_of(chosen)]
    inside = [p for p in found if not is_container(p)]
    return tuple(sorted(inside or found, key=lambda p: p.start))


def in_the_way(chosen: Partition, partitions: tuple[Partition, ...]) -> str | None:
    """What keeps `chosen` from reaching the end of the disk, as a message says it."""
    found = behind(chosen, partitions)
    if not found:
        return None
    names, verb = " and ".join(map(described, found)), "lies" if len(found) == 1 else "lie"
    return f"{names} {verb} between partition {chosen.number} and the end of the disk"


def instead(chosen: Partition, partitions: tuple[Partition, ...]) -> str:
    """What can be done where something is in the way of `chosen`."""
    kinds = [p.filesystem.type if p.filesystem else None for p in behind(chosen, partitions)]
    told = (
        f"'virtstore growfs' and 'virtstore shrinkfs' change partition {chosen.number} within its"
        " room"
    )
    if can_grow(kinds[-1]):
        last = behind(chosen, partitions)[-1].number
        told += f"; --partition {last} resizes the last one"
    if moves(chosen, partitions):
        told += "; --move-swap moves that one to the new end of the disk"
    if set(kinds) == {"swap"}:
        told += "; a guest that swaps to a file instead needs no partition for it"
    return told


def is_swap(partition: Partition) -> bool:
    """Whether its type says that it is swap."""
    return _SERVING.get(partition.type) == "swap"


def moves(chosen: Partition, partitions: tuple[Partition, ...]) -> bool:
    """Whether what lies behind `chosen` is a swap partition alone, which can be moved."""
    found = behind(chosen, partitions)
    return len(found) == 1 and is_swap(found[0]) and _holds_swap(found[0])


def _holds_swap(partition: Partition) -> bool:
    return partition.filesystem is not None and partition.filesystem.type == "swap"


def described(partition: Partition) -> str:
    """A partition as a message names it: its number, what it is, how large."""
    inside = partition.filesystem.type if partition.filesystem else None
    kind = _SERVING.get(partition.type)
    what = inside if kind is None or kind == inside else f"{kind}, {inside}" if inside else kind
    return (
        f"partition {partition.number} ({what or 'no file system recognised'},"
        f" {format_size(partition.size)})"
    )
