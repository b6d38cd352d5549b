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

#: What libvirt is asked of each domain.
_QUESTIONS: Final = ("dominfo", "dumpxml", "dumpxml --inactive")
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
    `uuid`. `state` is one of libvirt's own words. `active`: a QEMU may have its disks open. Then
    `disks` are those that it has now, and `next_disks` those that it is started with next."""

    name: str
    uuid: str
    state: str
    persistent: bool
    disks: tuple[DomainDisk, ...]
    active: bool = False
    next_disks: tuple[DomainDisk, ...] = ()


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
    told = virsh.ask(*(f"{question} {uuid}" for uuid in uuids for question in _QUESTIONS))
    each = zip(uuids, *(told[n :: len(_QUESTIONS)] for n in range(len(_QUESTIONS))), strict=True)
    # One that ended in between, and is defined nowhere, has no answers.
    return tuple(_domain(*answers) for answers in each if all(answers))


def _domain(uuid: str, info: str, now: str, later: str) -> Domain:
    told = dict(line.partition(":")[::2] for line in info.splitlines())
    described = _read(now, uuid)
    active = described.get("id") is not None
    return Domain(
        printable(described.findtext("name", "")),
        uuid,
        printable(told.get("State", "").strip()) or "no state",
        told.get("Persistent", "").strip() == "yes",
        _disks(described),
        active,
        _disks(_read(later, uuid)) if active else (),
    )


def _read(xml: str, uuid: str) -> Element:
    from xml.etree import ElementTree  # only where there are domains

    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Error(f"libvirt's description of the domain {uuid} cannot be read: {error}") from None


def _disks(domain: Element) -> tuple[DomainDisk, ...]:
    return tuple(_disk(disk) for disk in domain.iterfind("devices/disk"))


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
