"""The disk of a domain that runs becomes longer, and its guest sees that at once.

A raw image grows as any other does, and then QEMU is told. A qcow2 is grown by QEMU itself, which
has it open: nobody else may write its header. What is on the disk is the guest's to grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from virtstore.agent.container import what_is
from virtstore.agent.context import Agent, changed, planned
from virtstore.agent.evidence.libvirt import running_disks
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.errors import Error, UsageError
from virtstore.libvirt.domains import Domain, DomainDisk
from virtstore.libvirt.live_disk import SECTOR, capacity, lengthen
from virtstore.protocol import Done
from virtstore.units import format_apart, format_size, parse_target_size


class Seen(NamedTuple):
    """What came of telling domains of a new size. `changed`: a guest sees it that did not."""

    changed: bool = False
    warnings: tuple[str, ...] = ()


def tell_domains(image: Image) -> Seen:
    """Have the domains that run on a raw image see how long it is. One that cannot be told is a
    warning: the image has grown, and the domain sees that from its next start on."""
    changed, warnings = False, []
    running = running_disks(image)
    for domain, disk in running:
        if not disk.driver_format:  # its QEMU would make the file longer than was reserved
            warnings.append(f"domain {domain.name} sees the new size from its next start on")
    for domain, disk in _raw(running):
        try:
            if lengthen(domain, disk, image.size):
                changed = True
                warnings.append(_seen(domain, image.size))
        except (Error, OSError) as error:
            if any(each.uuid == domain.uuid for each, _ in running_disks(image)):
                warnings.append(_unseen(domain, disk, image.size, error))
    return Seen(changed, tuple(warnings))


def steps(image: Image) -> tuple[str, ...]:
    """What a dry run says of that."""
    return tuple(_step(domain, disk) for domain, disk in _raw(running_disks(image)))


def grow_container(
    agent: Agent, place: Place, image: Image, asked: str, *, dry_run: bool
) -> Done | None:
    """Grow a qcow2 that a running domain has. None for any other image."""
    if not (found := _container(place, image)):
        return None
    domain, disk = found
    present = capacity(domain, disk)
    size = parse_target_size(asked, present)
    size += -size % SECTOR
    if size < present:
        wanted, has = format_apart(size, present)
        raise UsageError(
            f"{wanted} is less than its {has};"
            f" domain {domain.name} is {domain.state}, and its disk can only grow"
        )
    if size > present:
        agent.policy.check_size(size)
    if dry_run:
        told = (_step(domain, disk, size),) if size > present else ()
        return Done(planned(place, size, *told))
    grown = lengthen(domain, disk, size)
    warnings = (_seen(domain, size),) if grown else ()
    done = changed(place, image, changed=grown, warnings=warnings)
    return Done(msgspec.structs.replace(done, size=size))


def live_size(place: Place, image: Image) -> int | None:
    """The bytes of a disk that a running domain has, and that can grow meanwhile; None for any
    other image."""
    if found := _container(place, image):
        return capacity(*found)
    return image.size if _raw(running_disks(image)) else None


def _container(place: Place, image: Image) -> tuple[Domain, DomainDisk] | None:
    """The running domain that has a qcow2, and the disk that it is there."""
    foreign = what_is(place, image).foreign
    if "qcow2" not in (image.container, foreign and foreign.name):
        return None
    disks = running_disks(image)
    return next((found for found in disks if found[1].driver_format == "qcow2"), None)


def _raw(
    disks: Sequence[tuple[Domain, DomainDisk]],
) -> list[tuple[Domain, DomainDisk]]:
    return [found for found in disks if found[1].driver_format == "raw"]


def _step(domain: Domain, disk: DomainDisk, size: int | None = None) -> str:
    grown = "" if size is None else f", grown to {format_size(size)} by its QEMU"
    return f"have domain {domain.name} see the new size of its disk {disk.target}{grown}"


def _seen(domain: Domain, size: int) -> str:
    return (
        f"domain {domain.name} sees {format_size(size)} now; the partitions and file systems on it"
        " grow in the guest (growpart and resize2fs, or the like)"
    )


def _unseen(domain: Domain, disk: DomainDisk, size: int, error: Exception) -> str:
    return (
        f"domain {domain.name} does not see the new size yet ({error}): 'virsh blockresize"
        f" {domain.uuid} {disk.target} {size}B' tells it, or its next start"
    )
