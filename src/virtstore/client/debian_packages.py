"""What a host needs besides Python and ssh, by Debian's names, and what for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from virtstore.model import MissingPackage


class _Tool(NamedTuple):
    program: str
    package: str
    purpose: str
    needed: bool = False


_TOOLS: Final = (
    _Tool("bwrap", "bubblewrap", "confines the tools that read images", needed=True),
    _Tool("prlimit", "util-linux", "bounds what these may take", needed=True),
    _Tool("mount", "mount", "resizes XFS and Btrfs, where that is allowed"),
    _Tool("resize2fs", "e2fsprogs", "resizes ext2, ext3 and ext4"),
    _Tool("xfs_growfs", "xfsprogs", "grows XFS"),
    _Tool("btrfs", "btrfs-progs", "resizes Btrfs"),
    _Tool("ntfsresize", "ntfs-3g", "resizes NTFS"),
    _Tool("lvm", "lvm2", "logical volumes"),
    _Tool("thin_dump", "thin-provisioning-tools", "thin volumes"),
    _Tool("virsh", "libvirt-clients", "knows libvirt's domains, and copies them live"),
    _Tool("qemu-storage-daemon", "qemu-system-common", "opens qcow2, vmdk, vdi and vhdx"),
    _Tool("qemu-img", "qemu-utils", "makes and checks qcow2"),
    _Tool("lzop", "lzop", "archives of lzop"),
)

PROGRAMS: Final = tuple(tool.program for tool in _TOOLS)


def missing(programs: Collection[str], *, volumes: bool) -> tuple[MissingPackage, ...]:
    """The packages of the programs that a host lacks, those first that it cannot do without.
    `volumes`: a volume group is wanted there."""
    found = [
        MissingPackage(
            tool.package, tool.purpose, tool.needed or (volumes and tool.package == "lvm2")
        )
        for tool in _TOOLS
        if tool.program in programs
    ]
    return tuple(sorted(found, key=lambda each: not each.needed))
