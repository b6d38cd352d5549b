"""Which of libvirt's domains have an image: those that are active use it, one that is shut off is
defined on it.

libvirt knows a name where the kernel shows a process. It is asked once for all images. Where it
does not answer, nothing is said of domains, and what the kernel shows of their QEMUs still counts.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from virtstore import model
from virtstore.agent.evidence import Use
from virtstore.agent.evidence.kernel import relatives
from virtstore.agent.processes import identity_of
from virtstore.backends.base import Identity, Image
from virtstore.errors import Error
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import Domain, DomainDisk, domains
from virtstore.model import InUse
from virtstore.network_name import NetworkName

log: Final = logging.getLogger("virtstore.agent")

#: Seconds for which a libvirt that did not answer is not asked again: a request asks several times.
_GIVEN_UP: Final = 60.0
_failed_at = -_GIVEN_UP
#: What a domain has for a disk: a path, or what it is called over the network.
_Claimed = str | NetworkName


class Domains:
    """What libvirt knew at one moment."""

    def __init__(self, found: Sequence[Domain]) -> None:
        self._uses: dict[Identity, list[Use]] = defaultdict(list)
        self._named: list[tuple[NetworkName, Use]] = []
        for domain in found:
            for place, use in _uses(domain):
                if isinstance(place, NetworkName):
                    self._named.append((place, use))
                    continue
                with suppress(OSError):  # there is no such file, or we may not see it
                    self._uses[identity_of(os.stat(place))].append(use)

    def speaks_for(self, image: Image) -> bool:
        """Others than domains use images."""
        return False

    def gather(self, images: Sequence[Image]) -> Iterator[tuple[Identity, Use]]:
        for image in images if self._named else ():
            if name := image.network:
                yield from ((image.identity, use) for n, use in self._named if n.may_be(name))
        if not self._uses:
            return
        for image in images:
            for use in self._uses.get(image.identity, ()):
                yield image.identity, use
            for relative, what in relatives(image.identity):
                for use in self._uses.get(relative, ()):
                    told = InUse("domain", f"{use.evidence.detail} ({what})")
                    yield image.identity, use._replace(evidence=told)


def look() -> Domains:
    return Domains(_asked())


def running_disks(image: Image) -> list[tuple[Domain, DomainDisk]]:
    """The active domains that may write to an image, each with the disk that it is there. None
    where libvirt cannot be asked."""
    return [
        (domain, disk)
        for domain in _asked()
        for disk in domain.disks
        if domain.active and not disk.read_only and is_on(image, disk)
    ]


def is_on(image: Image, disk: DomainDisk) -> bool:
    """Whether a domain's disk is this image."""
    if disk.network:
        return image.network is not None and disk.network.may_be(image.network)
    with suppress(OSError):  # there is no such file, or we may not see it; an empty drive
        return identity_of(os.stat(disk.source)) == image.identity
    return False


def _asked() -> Sequence[Domain]:
    """libvirt's domains. Never raises: what cannot be asked tells nothing."""
    global _failed_at
    if not virsh.is_there() or time.monotonic() < _failed_at + _GIVEN_UP:
        return ()
    try:
        return domains()
    except (Error, OSError) as error:  # the latter of a virsh that cannot be run
        log.warning("no domain is known: %s", error)
        _failed_at = time.monotonic()
        return ()


def _uses(domain: Domain) -> Iterator[tuple[_Claimed, Use]]:
    """Each image that a domain has a claim on, with what that is."""
    for disk in domain.disks:
        yield from _of_disk(domain, disk) if domain.active else _defined(domain, disk)
    now = {disk.network or disk.source for disk in domain.disks}
    for disk in domain.next_disks:
        if (disk.network or disk.source) not in now:
            yield from _defined(domain, disk)


def _of_disk(domain: Domain, disk: DomainDisk) -> Iterator[tuple[_Claimed, Use]]:
    """A disk of an active domain, and what it is laid over, which is only read."""
    told = f"domain {domain.name} is {domain.state}"
    named = model.Domain(domain.name, domain.state)
    place = disk.network or disk.source
    yield place, Use(InUse("domain", told), not disk.read_only, domain=named)
    for path in disk.backing:
        evidence = InUse("domain", f"{told}, on an overlay of it")
        yield path, Use(evidence, writes=False, domain=named)


def _defined(domain: Domain, disk: DomainDisk) -> Iterator[tuple[_Claimed, Use]]:
    """A disk that a domain has once it is started. What it is laid over libvirt does not know."""
    when = "from its next start on" if domain.active else domain.state
    evidence = InUse("domain", f"domain {domain.name}, {when}, is defined on it")
    named = model.Domain(domain.name, domain.state)
    place = disk.network or disk.source
    yield place, Use(evidence, writes=False, defined=True, domain=named)
