"""Containers that are opened: what the header of one says, checked before any engine reads it.

A guest, or whoever sent an image, can have written the header. So it is read here, in Python, from
fixed places and within bounds, and what an engine should not be given is refused with what to do
about it. Whether a file is a container at all is not asked here: its name or the host's
configuration says so (`names.container_of`). `containers` recognises containers by their contents,
for warnings.

A backing file is only told of: whether it may be opened is decided by who knows the roots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from virtstore.errors import Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import VirtualDisk, naming
from virtstore.formats.disks.qcow2 import examine_qcow2
from virtstore.formats.disks.vdi import examine_vdi
from virtstore.formats.disks.vhdx import examine_vhdx
from virtstore.formats.disks.vmdk import examine_vmdk
from virtstore.model import ContainerFormat

__all__ = ["VirtualDisk", "examine", "naming"]

_READERS: Final[dict[ContainerFormat, Callable[[ArchiveSource], VirtualDisk]]] = {
    "qcow2": examine_qcow2,
    "vmdk": examine_vmdk,
    "vdi": examine_vdi,
    "vhdx": examine_vhdx,
}


def examine(source: ArchiveSource, format: ContainerFormat) -> VirtualDisk:
    """What the header of a container in this format says. Raises `Corrupt` where that cannot be
    true, and `Unsupported` where an engine would need more than this file, or a feature that is not
    known here. `FILE` in a message is the container."""
    reader = _READERS.get(format)
    if reader is None:
        raise Unsupported(f"containers of the format {format} are not opened")
    return reader(source)
