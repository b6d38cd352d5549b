"""What speaks against writing to a device, beside what the kernel itself refuses.

Source: lvmdevices(8)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from virtstore import programs, run
from virtstore.backends.block_device.sysfs import (
    SECTOR,
    SYSFS,
    disk_of,
    number_at,
    number_of,
)
from virtstore.errors import Denied, InUse

_BLKROGET: Final = 0x125E  # linux/fs.h
#: In one of the first four sectors of what LVM took for itself (its format-text label).
_LVM_LABEL: Final = b"LABELONE"
_PVS: Final = (
    *("lvm", "pvs", "--noheadings", "--separator", ",", "-o", "pv_name,vg_name"),
    *("--config", "devices { scan_lvs=0 }"),
)
_LVM_TIMEOUT: Final = 120


def refuse_read_only(fd: int) -> None:
    """Raises `Denied` for a read-only device, which root can open to be written all the same."""
    said = fcntl.ioctl(fd, _BLKROGET, bytes(4))
    if said != bytes(4):
        raise Denied(
            "nothing can be written to it: it is read-only ('blockdev --getro DEVICE' says 1)"
        )


def refuse_physical_volume(fd: int) -> None:
    """Raises `InUse` where this host's LVM has the device, its disk or a partition of it. One with
    active volumes has a holder; the others only LVM knows."""
    number = number_of(os.fstat(fd))
    place = Path(os.path.realpath(f"{SYSFS}/{number}"))
    parts = [path.parent for path in place.glob("*/partition")]
    starts = [int((part / "start").read_text()) * SECTOR for part in parts]
    labels = (os.pread(fd, 4 * SECTOR, start) for start in (0, *starts))
    if not any(_LVM_LABEL in label for label in labels) or programs.missing("lvm"):
        return
    ours = {number, disk_of(number), *((part / "dev").read_text().strip() for part in parts)}
    for line in run.run(_PVS, timeout=_LVM_TIMEOUT).stdout.decode("utf-8", "replace").splitlines():
        path, _, group = line.strip().partition(",")
        if number_at(path) in ours:
            raise InUse(
                f"it holds a physical volume of this host's LVM ({group or 'of no volume group'})."
                " If that is a guest's, keep this host's LVM from it (lvmdevices(8), or"
                " global_filter in lvm.conf)"
            )
