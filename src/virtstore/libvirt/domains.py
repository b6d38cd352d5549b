"""The domains of this host, as libvirt has them.

Sources: libvirt's "Domain XML format" (disks, backingStore) and virsh(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from virtstore.errors import Error
from virtstore.libvirt import virsh
from virtstore.network_name import NetworkName
from virtstore.text import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: What libvirt is asked of each domain.
_QUESTIONS: Final = ("dominfo", "dumpxml", "dumpxml --inactive")
#: A name that is one word of virsh's between single quotes, within which it takes all as it is.
_QUOTABLE: Final = re.compile(r"[^'\x00-\x1f\x7f]+")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DomainDisk(msgspec.Struct, frozen=True):
    """A disk of a domain. `source` is a path, or empty where it is none (a disk on the network, an
    empty drive). `driver_format`: empty where the guest sees something else than what is there,
    because of encryption or a slice. `backing`: the paths that libvirt knows behind it, the nearest
    first; it knows them while the domain runs. `network`: what it is called where it is no path; of
    the protocol rbd only."""

    target: str
    type: str
    source: str
    driver_format: str
    read_only: bool = False
    backing: tuple[str, ...] = ()
    network: NetworkName | None = None


class Domain(msgspec.Struct, frozen=True):
    """A domain. `name` is printable and for people; whoever means the domain gives libvirt its
    `uuid`. `state` is one of libvirt's own words. `active`: a QEMU may have its disks open. Then
    `disks` are those that it has now, and `next_disks` those that it is started with next."""

    name: str
    uuid: str
    state: str
    disks: tuple[DomainDisk, ...]
    active: bool = False
    next_disks: tuple[DomainDisk, ...] = ()


def driver_formats() -> dict[tuple[int, int], set[str]]:
    """The formats in which domains have files as disks, by each file's device and inode; nothing
    where libvirt does not answer."""
    found: dict[tuple[int, int], set[str]] = {}
    with suppress(Error):
        for domain in domains():
            for disk in (*domain.disks, *domain.next_disks):
                with suppress(OSError):
                    file = os.stat(disk.source)
                    found.setdefault((file.st_dev, file.st_ino), set()).add(disk.driver_format)
    return found


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
    found = [_Described.of(*answers) for answers in each if all(answers)]
    _find_volumes([source for each in found for source in each.volumes()])
    return tuple(each.domain() for each in found)


class _Described(NamedTuple):
    """What libvirt says of a domain: facts, and its description as it is and will be."""

    uuid: str
    facts: dict[str, str]
    now: Element
    later: Element

    @classmethod
    def of(cls, uuid: str, info: str, now: str, later: str) -> _Described:
        lines = (line.partition(":") for line in info.splitlines())
        facts = {name: value.strip() for name, _, value in lines}
        return cls(uuid, facts, _read(now, uuid), _read(later, uuid))

    def volumes(self) -> Iterator[Element]:
        """The sources that are volumes of a pool."""
        for described in (self.now, self.later):
            yield from described.iterfind("devices/disk//source[@volume]")

    def domain(self) -> Domain:
        active = self.now.get("id") is not None
        return Domain(
            printable(self.now.findtext("name", "")),
            self.uuid,
            printable(self.facts.get("State", "")) or "no state",
            _disks(self.now),
            active,
            _disks(self.later) if active else (),
        )


def _find_volumes(sources: Sequence[Element]) -> None:
    """Give each source that is a volume of a pool its path, as libvirt has it. One whose name has a
    quote keeps having none."""
    names = {(source.get("pool", ""), source.get("volume", "")) for source in sources}
    quotable = [each for each in names if all(map(_QUOTABLE.fullmatch, each))]
    questions = (f"vol-path --pool '{pool}' --vol '{volume}'" for pool, volume in quotable)
    found = dict(zip(quotable, virsh.ask(*questions), strict=True))
    for source in sources:
        source.set("file", found.get((source.get("pool", ""), source.get("volume", "")), ""))


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
        "" if _is_translated(disk) else _attribute(disk, "driver", "type"),
        disk.find("readonly") is not None,
        tuple(path for store in disk.iter("backingStore") if (path := _source(store))),
        _network(disk),
    )


def _network(disk: Element) -> NetworkName | None:
    source = disk.find("source")
    if source is None or source.get("protocol") != "rbd":
        return None
    snapshot = _attribute(source, "snapshot", "name")
    hosts = (each.get("name", "").strip("[]") for each in source.iterfind("host"))
    name = source.get("name", "") + (f"@{snapshot}" if snapshot else "")
    return NetworkName("rbd", name, frozenset(filter(None, hosts)))


def _is_translated(disk: Element) -> bool:
    """Whether QEMU decrypts the source, or shows a part of it."""
    parts = ("encryption", "source/encryption", "source/slices")
    return any(disk.find(part) is not None for part in parts)


def _source(disk: Element) -> str:
    """The path of a disk's, or of a backing file's, source."""
    return _attribute(disk, "source", "file") or _attribute(disk, "source", "dev")


def _attribute(element: Element, name: str, attribute: str) -> str:
    found = element.find(name)
    return "" if found is None else found.get(attribute, "")
