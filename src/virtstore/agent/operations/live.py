"""A running domain's image as a copy's source: the domain's own backup job shows the disk in it as
it is at one moment, whatever format the image has."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from virtstore.agent.context import Agent
from virtstore.agent.operations.quiescing import running_on
from virtstore.agent.policy import LEVELS, Place
from virtstore.backends.live_disk import LiveDisk
from virtstore.copy_options import Quiesce
from virtstore.errors import Denied, NoSpace, NotFound, Unsupported
from virtstore.libvirt import backup_job
from virtstore.libvirt.domains import Domain
from virtstore.transfer.pieces import Source
from virtstore.transfer.sources import RawSource
from virtstore.units import format_size

#: Bytes that stay free where the scratch file is, or as many as the disk has.
_FLOOR: Final = 1 << 30


@contextmanager
def live_source(
    agent: Agent, place: Place, quiesce: Quiesce
) -> Iterator[tuple[Source, tuple[str, ...]]]:
    """The disk of the domain that runs on an image, and what there is to say of its moment. Raises
    `Unsupported` where no domain does, and `InUse` where it has a backup job already."""
    domain, target = running_on(place, "--live")
    if os.geteuid() != 0:
        raise Denied(
            "a live copy reads a domain's disk from a socket of QEMU's, which root only may do on"
            " this host: let its agent be started as root ('sudo virtstore-agent')"
        )
    _refuse_translated(domain, target)
    _require_chain(agent, place, domain, target)
    floor = min(_FLOOR, backup_job.capacity(domain.uuid, target))
    agent.session.stage("snapshot")
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch(agent, place, 2 * floor))
        disks = tuple(disk.target for disk in domain.disks)
        socket = backup_job.socket_for(domain.uuid)
        job = backup_job.Backup(domain.uuid, target, disks, socket, scratch, floor, quiesce)
        disk = stack.enter_context(LiveDisk(job))
        yield RawSource(disk, disk.size), disk.warnings


def _refuse_translated(domain: Domain, target: str) -> None:
    """Raises `Unsupported` for a disk of which the guest sees something else than lies there: the
    job would show what QEMU has decrypted, and the copy would keep that in the clear."""
    if any(disk.target == target and not disk.driver_format for disk in domain.disks):
        raise Unsupported(
            f"domain {domain.name} has its disk {target} encrypted, or has a part of the image"
            " only, so a live copy would be of other bytes, and in the clear; copy it while the"
            " domain is shut off, or with --snapshot"
        )


def _require_chain(agent: Agent, place: Place, domain: Domain, target: str) -> None:
    """Raises `Denied` where this session may not read an image that the disk lies over. The job
    would show that image's contents."""
    for disk in domain.disks:
        for path in disk.backing if disk.target == target else ():
            try:
                agent.policy.require(place.store.elsewhere.path_of(path), "read")
            except Denied as error:
                error.message = (
                    f"it is an overlay, and of what lies under it, {path}: {error.message}"
                )
                raise


@contextmanager
def _scratch(agent: Agent, place: Place, need: int) -> Iterator[str]:
    """The path of a file that there is not yet, locked, in an allowed directory that has so much
    room: the image's own, if that is one, or else the one with the most. It has a partial image's
    name: should the host stop, `clean` removes it."""
    directory = _directory(agent, place, need)
    stem = re.sub(r"[^\w.-]", "_", place.name, flags=re.ASCII)[:100]
    name = f"{stem}.live-{secrets.token_hex(4)}"
    with agent.locked(f"{directory}/{name}", "append"):
        yield f"{directory}/{name}.virtstore-partial"


def _directory(agent: Agent, place: Place, need: int) -> str:
    found = {path: backup_job.free(path) for path in _directories(agent)}
    if not found:
        raise NotFound(
            "a live copy keeps what the guest overwrites meanwhile in a file, and there is no"
            ' directory on this host where this connection may make one ("append"); --snapshot'
            " copies a volume without"
        )
    own = [path for path in found if place.path.startswith(f"{path}/") and found[path] >= need]
    best = max(own, key=len, default=None) or max(found, key=lambda path: found[path])
    if found[best] < need:
        raise NoSpace(
            "a live copy keeps what the guest overwrites meanwhile in a file, for which"
            f" {format_size(need)} have to be free at its start; {best}, which has the most room,"
            f" has {format_size(found[best])}"
        )
    return best


def _directories(agent: Agent) -> Iterator[str]:
    """The configured directories in which this session may make files. A part of one, to which the
    session may be restricted, can be somebody's who would lead libvirt elsewhere."""
    whole = agent.policy.config.roots
    for root, access in agent.policy.roots():
        if root in whole and LEVELS[access] >= LEVELS["append"] and os.path.isdir(root.path):
            with suppress(Denied, NotFound), agent.policy.opened(root) as store:
                if store.capabilities.archives:
                    yield root.path.rstrip("/")
