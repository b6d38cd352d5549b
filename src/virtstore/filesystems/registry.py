"""Which file systems virtstore knows how to resize: adding one is a line in `_ALL`."""

from __future__ import annotations

import os
from typing import Final

from virtstore import programs
from virtstore.errors import Unsupported
from virtstore.filesystems.base import FileSystem
from virtstore.filesystems.btrfs import Btrfs
from virtstore.filesystems.ext import Ext
from virtstore.filesystems.fat import Fat
from virtstore.filesystems.ntfs import Ntfs
from virtstore.filesystems.swap import Suspended, Swap
from virtstore.filesystems.xfs import Xfs
from virtstore.model import FilesystemSupport

_ALL: Final[tuple[FileSystem, ...]] = (Ext(), Xfs(), Btrfs(), Ntfs(), Fat(), Swap(), Suspended())

#: By blkid's name of its type.
FILESYSTEMS: Final[dict[str, FileSystem]] = {t: each for each in _ALL for t in each.types}


def for_type(kind: str) -> FileSystem:
    """The file system that blkid calls `kind`. Raises `Unsupported`."""
    try:
        return FILESYSTEMS[kind]
    except KeyError:
        known = ", ".join(kind for kind, each in FILESYSTEMS.items() if each.capabilities.grow)
        raise Unsupported(
            f"a file system of type {kind} cannot be resized; those that can: {known}"
        ) from None


def can_grow(kind: str | None) -> bool:
    """Whether what blkid calls `kind` is made larger here, where a host has the tools."""
    found = FILESYSTEMS.get(kind or "")
    return found is not None and found.capabilities.grow


def can_shrink(kind: str | None) -> bool:
    """As `can_grow`, for smaller."""
    found = FILESYSTEMS.get(kind or "")
    return found is not None and found.capabilities.shrink


def support(*, mounting: bool) -> tuple[FilesystemSupport, ...]:
    """What this agent can do now: nothing, where a tool is missing, or mounting would be
    needed and is not allowed (`mounting`), or possible only for root."""
    return tuple(_support(kind, each, mounting=mounting) for kind, each in FILESYSTEMS.items())


def _support(kind: str, filesystem: FileSystem, *, mounting: bool) -> FilesystemSupport:
    able = filesystem.capabilities
    missing = programs.missing(*able.tools)
    possible = not missing and (not able.mounted or (mounting and os.geteuid() == 0))
    return FilesystemSupport(
        type=kind,
        grow=able.grow and possible,
        shrink=able.shrink and possible,
        missing=missing,
    )
