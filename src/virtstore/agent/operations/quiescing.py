"""The domain that runs on an image, and a snapshot made while that has its file systems frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from virtstore.agent.evidence.libvirt import is_on
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.copy_options import Quiesce
from virtstore.errors import Unsupported
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import Domain, domains
from virtstore.libvirt.freeze import Freeze
from virtstore.libvirt.guard import Guard

Frozen = TypeVar("Frozen", bound=Image)


def running_on(place: Place, option: str) -> tuple[Domain, str]:
    """The domain that has an image open to write to it, and what it calls that disk. Raises
    `Unsupported` where there is none, for which `option` was given."""
    if not virsh.is_there():
        raise Unsupported(
            f"this host has no libvirt that answers, and {option} is for what a domain of libvirt's"
            " has; --snapshot copies an image as it is at one moment where its storage can"
        )
    off: list[str] = []
    with place.store.open(place.name, stored=True) as image:  # QEMU has a container's disk
        for domain, disk in _writing_to(image):
            if domain.active:
                return domain, disk
            off.append(domain.name)
    known = f"; domain {off[0]}, which has it, does not run" if off else ""
    raise Unsupported(
        f"no domain that runs has this image for a disk{known}; leave {option} out, and it is"
        " copied as it is"
    )


def _writing_to(image: Image) -> Iterator[tuple[Domain, str]]:
    """The domains that have an image for a disk which they may write to, and what they call it."""
    for domain in domains():
        for disk in domain.disks:
            if not disk.read_only and is_on(image, disk):
                yield domain, disk.target


def quiesced(
    place: Place, quiesce: Quiesce, told: list[str], freeze: Callable[[str], Frozen]
) -> Frozen:
    """A snapshot of an image, which `freeze` makes of the image of that name while the file systems
    of the guest that runs on it are frozen. Where they cannot be, and that was to be tried only,
    that is added to `told`."""
    try:
        domain, _ = running_on(place, "--quiesce")
    except Unsupported as error:
        if quiesce != "try":
            raise
        told.append(f"it is not quiesced: {error.message}")
        return freeze(place.name)
    guard = Guard(Freeze(domain.uuid, quiesce))
    told.extend(guard.warnings)
    try:
        image = freeze(place.name)
    except BaseException:
        guard.end()
        raise
    if failed := guard.end():
        image.close()
        raise failed
    return image
