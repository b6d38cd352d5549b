"""What could go wrong with a pool: its room, the user's capabilities, and this host's programs.

Sources: ceph(8); Ceph's documentation, "User Management", profile rbd. Host tools needed: ceph
(Debian: ceph-common).
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from typing import Final

from virtstore import exporter, programs
from virtstore.backends.rbd import room
from virtstore.backends.rbd.pool import RbdPool
from virtstore.findings import note, ok, problem, warning
from virtstore.model import Access, Finding
from virtstore.units import format_size

#: Where Debian, and others, have the modules of QEMU.
_DRIVERS: Final = ("/usr/lib/*/qemu/block-rbd.so", "/usr/lib*/qemu*/block-rbd.so")
#: The share of a pool below which there is little room.
_LITTLE: Final = 0.05


def examine(path: str, store: RbdPool, access: Access) -> Iterator[Finding]:
    """The findings of `doctor`; the pool has been listed."""
    yield ok(f"{path}: an RBD pool that can be reached as client.{store.cluster.user} ({access})")
    if programs.missing(exporter.DAEMON) or not any(map(glob.glob, _DRIVERS)):
        yield problem(
            f"{path}: nothing is read or written there without QEMU's storage daemon and its driver"
            " for RBD",
            "install them (Debian: apt install qemu-system-common qemu-block-extra)",
        )
    known = room.room(store.cluster)
    if known is None:
        yield note(
            f"{path}: {room.UNKNOWN}", "'ceph df' shows it to an administrator of the cluster"
        )
    elif known[1] < known[0] * _LITTLE:
        yield warning(
            f"{path}: of {format_size(known[0])} only {format_size(known[1])} are free",
            "remove what is not needed, or extend the cluster: one that is full stops its guests",
        )
