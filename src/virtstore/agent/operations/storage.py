"""The host's storage: its roots with their free space, and what can be done with images here."""

from __future__ import annotations

from collections.abc import Iterator

from virtstore import formats
from virtstore.agent.config import VolumeGroupRoot
from virtstore.agent.context import Agent
from virtstore.backends import lvm_report
from virtstore.errors import Denied, Error, NotFound
from virtstore.filesystems import registry
from virtstore.model import Access, DirectoryInfo, FormatSupport, StorageInfo, VolumeGroup
from virtstore.protocol import GetStorageInfo, ToldStorage
from virtstore.version import __version__


def storage_info(agent: Agent, request: GetStorageInfo) -> ToldStorage:
    directories, groups = [], []
    warnings = [agent.policy.restricted] if agent.policy.leaves_nothing else []
    if agent.policy.config.ignored and not agent.policy.config.sources:
        warnings.append(agent.policy.config.ignored)
    for root, access in agent.policy.roots():
        try:
            directories.append(_directory_info(agent, root.path, access))
        except (NotFound, Denied) as error:  # one bad root does not hide the others
            warnings.append(f"{root.path}: {error.message}")
    for group, access in agent.policy.groups():
        try:
            told, missing = _group(group, access)
            groups.append(told)
            warnings += [f"{group.path}: {missing}"] if missing else []
        except Error as error:
            warnings.append(f"{group.path}: {error.message}")
    info = StorageInfo(
        host="",
        version=__version__,
        directories=tuple(directories),
        volume_groups=tuple(groups),
        filesystems=registry.support(mounting=agent.policy.may_mount),
        formats=tuple(_format_support()),
        warnings=tuple(warnings),
    )
    return ToldStorage(info)


def _directory_info(agent: Agent, path: str, access: Access) -> DirectoryInfo:
    with agent.policy.directory(path, "read") as store:
        return DirectoryInfo(
            path=path,
            access=access,
            filesystem=store.filesystem(),
            total=store.total(),
            free=store.free(),
            snapshots=store.shares_blocks(),
            lacks=store.lacks() if access != "read" else (),
        )


def _group(root: VolumeGroupRoot, access: Access) -> tuple[VolumeGroup, str]:
    """The volume group, and what it lacks."""
    found = lvm_report.group(root.name)
    told = VolumeGroup(
        path=root.path,
        access=access,
        total=found.size,
        free=found.free,
        extent_size=found.extent_size,
        thin_pools=lvm_report.thin_pools(root.name),
    )
    return told, found.missing


def _format_support() -> Iterator[FormatSupport]:
    for each in formats.FORMATS.values():
        able = not each.missing()
        yield FormatSupport(each.name, read=able, write=able)
