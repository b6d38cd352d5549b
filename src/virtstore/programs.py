"""Which programs this host has, and which Debian package has those that it lacks."""

from __future__ import annotations

import os
import shutil
from typing import Final

from virtstore.errors import Unsupported

#: The Debian package that has a program, where that is not the program's own name.
_PACKAGES: Final = {
    "blkid": "util-linux",
    "btrfs": "btrfs-progs",
    "bwrap": "bubblewrap",
    "ceph": "ceph-common",
    "ceph-conf": "ceph-common",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "lvm": "lvm2",
    "ntfs-3g.probe": "ntfs-3g",
    "ntfsresize": "ntfs-3g",
    "prlimit": "util-linux",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "rados": "ceph-common",
    "rbd": "ceph-common",
    "resize2fs": "e2fsprogs",
    "timeout": "coreutils",
    "umount": "mount",
    "unshare": "util-linux",
    "virsh": "libvirt-clients",
    "xfs_growfs": "xfsprogs",
    "xfs_repair": "xfsprogs",
}

#: Where a tool may be although a user's PATH has only the bin directories (Debian's does).
SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def find(tool: str) -> str | None:
    """The path of a program on this host, or None."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def package(tool: str) -> str:
    """The Debian package to install for a program."""
    return _PACKAGES.get(tool, tool)


def missing(*tools: str) -> tuple[str, ...]:
    """Those of `tools` that this host has not."""
    return tuple(tool for tool in tools if find(tool) is None)


def require(tool: str) -> str:
    """The path of a program. Raises `Unsupported` where this host has it not."""
    path = find(tool)
    if path is None:
        raise Unsupported(f"{tool} is not installed on this host (Debian: {package(tool)})")
    return path
