"""The domains of this host, as libvirt has them.

Sources: libvirt's "Domain XML format" (disks, backingStore) and virsh(1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from virtstore.errors import Error
from virtstore.libvirt import virsh
from virtstore.text import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DomainDisk(msgspec.Struct, frozen=True):
    """A disk of a domain. `source` is a path, or empty where it is none (a disk on the network, an
    empty drive). `backing`: the paths that libvirt knows behind it, the nearest first; it knows
    them while the domain runs."""

    target: str
    type: str
    source: str
    driver_format: str
    read_only: bool = False
    shareable: bool = False
    backing: tuple[str, ...] = ()


class Domain(msgspec.Struct, frozen=True):
    """A domain. `name` is printable and for people; whoever means the domain gives libvirt its
    `uuid`. `state` is one of libvirt's own words. Of one that is active, the disks are those that
    it has now."""

    name: str
    uuid: str
    state: str
    persistent: bool
    disks: tuple[DomainDisk, ...]

    @property
    def active(self) -> bool:
        """Whether a QEMU has its disks open, or may have."""
        return self.state not in ("shut off", "crashed")


def domains() -> tuple[Domain, ...]:
    """All domains of this host; none where it has no libvirt.

    Raises `Unsupported` where virsh is missing, `Error` where libvirt does not answer, or not in
    its own words.
    """
    if not virsh.is_there():
        return ()
    (listed,) = virsh.ask("list --all --uuid")
    uuids = [line.strip() for line in listed.splitlines() if line.strip()]
    if not all(_UUID.fullmatch(uuid) for uuid in uuids):
        raise Error("libvirt's list of domains is none of UUIDs")
    told = virsh.ask(*(f"{command} {uuid}" for uuid in uuids for command in ("dominfo", "dumpxml")))
    found = zip(uuids, told[::2], told[1::2], strict=True)
    # One that ended in between, and is defined nowhere, has no answers.
    return tuple(_domain(uuid, info, xml) for uuid, info, xml in found if info and xml)


def _domain(uuid: str, info: str, xml: str) -> Domain:
    from xml.etree import ElementTree  # only where there are domains

    told = dict(line.partition(":")[::2] for line in info.splitlines())
    try:
        described = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Error(f"libvirt's description of the domain {uuid} cannot be read: {error}") from None
    return Domain(
        printable(described.findtext("name", "")),
        uuid,
        printable(told.get("State", "").strip()) or "no state",
        told.get("Persistent", "").strip() == "yes",
        tuple(_disk(disk) for disk in described.iterfind("devices/disk")),
    )


def _disk(disk: Element) -> DomainDisk:
    return DomainDisk(
        _attribute(disk, "target", "dev"),
        disk.get("type", ""),
        _source(disk),
        _attribute(disk, "driver", "type"),
        disk.find("readonly") is not None,
        disk.find("shareable") is not None,
        tuple(path for store in disk.iter("backingStore") if (path := _source(store))),
    )


def _source(disk: Element) -> str:
    """The path of a disk's, or of a backing file's, source."""
    return _attribute(disk, "source", "file") or _attribute(disk, "source", "dev")


def _attribute(element: Element, name: str, attribute: str) -> str:
    found = element.find(name)
    return "" if found is None else found.get(attribute, "")
