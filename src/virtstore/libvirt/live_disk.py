"""A disk of a domain that runs: how long its QEMU takes it for, and making that longer.

Source: virsh(1), domblkinfo and blockresize. blockresize would also cut a qcow2, and what the guest
has there is lost then: nothing here makes a disk shorter.
"""

from __future__ import annotations

import re
from typing import Final

from virtstore.errors import Error
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import Domain, DomainDisk

#: What libvirt calls disks, such as vda.
_TARGET: Final = re.compile(r"[a-z]+[0-9a-z]*")
_CAPACITY: Final = re.compile(r"^Capacity: +(\d+)$", re.MULTILINE)
#: QEMU's sectors: a disk has whole ones.
SECTOR: Final = 512


def capacity(domain: Domain, disk: DomainDisk) -> int:
    """The bytes that the guest sees. Raises `Error` where that cannot be told, as of a domain that
    has ended."""
    if not _TARGET.fullmatch(disk.target):
        raise Error(f"libvirt's name of a disk is none: {disk.target!r}")
    (said,) = virsh.ask(f"domblkinfo {domain.uuid} {disk.target}")
    if not (found := _CAPACITY.search(said)):
        raise Error(f"libvirt does not tell the size of disk {disk.target}")
    return int(found[1])


def lengthen(domain: Domain, disk: DomainDisk, size: int) -> bool:
    """Have the guest see a disk of `size` bytes, in whole sectors. Whether it was shorter before.
    A raw disk must be as long already; of a qcow2 QEMU makes it so. Raises `Error`."""
    if capacity(domain, disk) >= size:
        return False
    size += -size % SECTOR
    place = ("--domain", domain.uuid, "--path", disk.target)
    virsh.call("blockresize", *place, "--size", f"{size}B")
    if (seen := capacity(domain, disk)) < size:
        raise Error(f"its QEMU still sees {seen} bytes")
    return True
