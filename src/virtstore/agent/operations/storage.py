"""The host's storage: its roots with their free space, and what can be done with images here."""

from __future__ import annotations

from collections.abc import Iterator

from virtstore import formats
from virtstore.agent import libvirt_pools
from virtstore.agent.context import Agent
from virtstore.errors import Error
from virtstore.filesystems import registry
from virtstore.model import (
    DirectoryInfo,
    FormatSupport,
    LibvirtPool,
    PlaceInfo,
    RootInfo,
    StorageInfo,
    VolumeGroup,
)
from virtstore.protocol import GetStorageInfo, ToldStorage
from virtstore.version import __version__


def storage_info(agent: Agent, request: GetStorageInfo) -> ToldStorage:
    agent.session.stage("checking")
    warnings = []
    if agent.policy.leaves_nothing:
        warnings.append(f"{agent.policy.restricted}; 'virtstore doctor' says what to do")
    if agent.policy.config.ignored and not agent.policy.config.sources:
        warnings.append(agent.policy.config.ignored)
    told: list[RootInfo] = []
    for root, access in agent.policy.roots():
        try:
            with agent.policy.opened(root) as store:
                found, lacking = root.describe(store, access)
            told.append(found)
            warnings += [f"{root.path}: {lacking}"] if lacking else []
        except Error as error:  # one bad root does not hide the others
            warnings.append(f"{root.path}: {error.message}")
    info = StorageInfo(
        host="",
        version=__version__,
        directories=tuple(each for each in told if isinstance(each, DirectoryInfo)),
        volume_groups=tuple(each for each in told if isinstance(each, VolumeGroup)),
        places=tuple(each for each in told if isinstance(each, PlaceInfo)),
        filesystems=registry.support(mounting=agent.policy.may_mount),
        formats=tuple(_format_support()),
        warnings=tuple(warnings),
        unmanaged=tuple(
            LibvirtPool(*pool) for pool in libvirt_pools.pools(agent.policy) if pool.remedy
        ),
    )
    return ToldStorage(info)


def _format_support() -> Iterator[FormatSupport]:
    for each in formats.FORMATS.values():
        able = not each.missing()
        yield FormatSupport(each.name, read=able, write=able)
