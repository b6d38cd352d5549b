"""Partition tables that blkid does not name when a whole disk has nothing else.

They are not read: that one is there is enough to cut nothing of the disk, also not what reads as
zeros. Each is found by a mark that nobody has by chance, where the systems that use it look.

Sources: the BSDs' sys/disklabel.h (both marks, in either byte order); the kernel's
block/partitions: ibm.c, amiga.c, ldm.h, sysv68.c, mac.c, osf.c.
"""

from __future__ import annotations

from typing import Final

from virtstore.filesystems.base import Device

_HEAD: Final = 16 << 10
_BSD: Final = (b"\x57\x45\x56\x82", b"\x82\x56\x45\x57")
#: Between a BSD label's first mark and its second.
_SECOND: Final = 132
#: VOL1, LNX1 and CMS1 in EBCDIC.
_DASD: Final = (b"\xe5\xd6\xd3\xf1", b"\xd3\xd5\xe7\xf1", b"\xc3\xd4\xe2\xf1")
_AMIGA_BLOCKS: Final = 16
_LDM: Final = 6 * 512


def disklabel(device: Device) -> str | None:
    """The kind of table that `device` begins with, of those; None where it has none of them."""
    head = device.read(0, _HEAD)
    if _is_bsd(head):
        return "bsd"
    if any(head[at : at + 4] in _DASD for at in (512, 1024, 2048, 4096, 8192)):
        return "dasd"
    if any(head[n * 512 : n * 512 + 4] == b"RDSK" for n in range(_AMIGA_BLOCKS)):
        return "amiga"
    if head[_LDM : _LDM + 8] == b"PRIVHEAD":
        return "ldm"
    if head[248:256] == b"MOTOROLA":
        return "sysv68"
    if any(head[at : at + 4] == b"PM\0\0" for at in (512, 1024, 2048)):
        return "mac"
    return None


def _is_bsd(head: bytes) -> bool:
    for mark in _BSD:
        at = head.find(mark)
        while at >= 0:
            if at % 4 == 0 and head[at + _SECOND : at + _SECOND + 4] == mark:
                return True
            at = head.find(mark, at + 1)
    return False
