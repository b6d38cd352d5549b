"""swap: one field of its header says where it ends, and that is all there is to resize.

`last_page` lies in one sector with the rest of the header, so a write of it is old or new
whatever happens, and UUID and label stay. mkswap is no help: it writes the whole first page,
in several writes, and has no way to begin where a partition does. What it would make of the
new size is the same, byte for byte.

There is nothing in a swap area to keep, except where a guest was suspended to it. The mark of
that stands in the place of the swap area's own; TuxOnIce's may stand at the start instead.

Handled are areas with pages of 4096 bytes, little-endian: what x86 and nearly all ARM guests
have. Others are refused.

Sources: linux/swap.h (union swap_header), mm/swapfile.c (read_swap_header), util-linux's
libblkid/src/superblocks/swap.c for the marks, mkswap(8) for the ten pages that it wants.
Host tools needed: none.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from virtstore.errors import Corrupt, Unsafe, Unsupported
from virtstore.filesystems.base import Capabilities, Device, Resized, Watch, unwatched
from virtstore.filesystems.bounds import grow_target
from virtstore.units import format_size

_PAGE: Final = 4096
_FEWEST_PAGES: Final = 10
#: Of a page, which the machine that made it chose (mkswap --pagesize).
_PAGES: Final = (4096, 8192, 16384, 32768, 65536)
#: last_page has 32 bits.
_MOST_PAGES: Final = 1 << 32

_HEADER: Final = struct.Struct("<III")  # version, last_page, nr_badpages
_HEADER_OFFSET: Final = 1024
_LAST_PAGE_OFFSET: Final = _HEADER_OFFSET + 4

_MARK: Final = b"SWAPSPACE2"
_MARK_OFFSET: Final = _PAGE - len(_MARK)
_TUX_ON_ICE: Final = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"
_SUSPENDED: Final = (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001", _TUX_ON_ICE)


class Swap:
    types: tuple[str, ...] = ("swap",)
    capabilities = Capabilities(grow=True, shrink=True, tools=())

    def size(self, device: Device) -> int | None:
        """See the contract. Whatever its pages' size."""
        for page in _PAGES:
            if device.read(page - len(_MARK), len(_MARK)) == _MARK:
                version, last_page, _ = _HEADER.unpack(device.read(_HEADER_OFFSET, _HEADER.size))
                return int(last_page + 1) * page if version == 1 else None
        return None

    def minimum(self, device: Device) -> int | None:
        """See the contract. Ten pages, unless it is one that cannot be shrunk."""
        try:
            pages = _pages(device)
        except (Corrupt, Unsafe, Unsupported):
            return None
        return min(pages, _FEWEST_PAGES) * _PAGE

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract."""
        pages = _pages(device)
        target = grow_target(pages * _PAGE, device, size, _PAGE, "swap area")
        return _resize(device, pages, min(target // _PAGE, _MOST_PAGES))

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract. There is nothing in it that could be lost."""
        pages = _pages(device)
        fewest = min(pages, _FEWEST_PAGES)
        wanted = fewest if size is None else size // _PAGE
        if wanted < fewest:
            raise Unsafe(
                f"a swap area of {size} bytes would be too small for a kernel to use; the smallest"
                f" has {fewest * _PAGE} bytes ({format_size(fewest * _PAGE)})"
            )
        return _resize(device, pages, min(wanted, pages))


def _suspended() -> Unsafe:
    return Unsafe(
        "a guest is suspended to this swap area, and its memory would be lost; resume it and"
        " shut it down, then try again"
    )


class Suspended:
    """A swap area with a suspended guest in it: recognised so that its refusal says why."""

    types: tuple[str, ...] = ("swsuspend",)
    capabilities = Capabilities(grow=False, shrink=False, tools=(), why_not=_suspended)

    def size(self, device: Device) -> int | None:
        return None

    def minimum(self, device: Device) -> int | None:
        return None

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        raise _suspended()

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        raise _suspended()


def header_to_move(device: Device) -> bytes:
    """The first page of a swap area: UUID, label, size, bad pages, and its mark, whatever the
    size of the page. A copy of it at the start of another place as large makes that the same
    swap area. Raises for one that holds more than a swap area does, or is no whole one."""
    if device.read(0, len(_TUX_ON_ICE)) == _TUX_ON_ICE:
        raise _suspended()
    for page in _PAGES:
        mark = device.read(page - len(_MARK), len(_MARK))
        if mark.startswith(_SUSPENDED):
            raise _suspended()
        if mark == _MARK:
            _require_within(device, page)
            return device.read(0, page)
    raise Unsupported(
        "its swap area has no mark that a kernel knows; run mkswap in the guest first"
    )


def _require_within(device: Device, page: int) -> None:
    """Raises unless it is of the version that there is, and as large as its place at most."""
    version, last_page, _ = _HEADER.unpack(device.read(_HEADER_OFFSET, _HEADER.size))
    if version != 1:
        raise Unsupported(
            f"its swap area is of version {version}, or of a big-endian machine; only those of"
            " version 1, little-endian, can be moved: run mkswap in the guest instead"
        )
    if not 0 < last_page < device.size // page:
        raise _cut((last_page + 1) * page, device)


def _cut(size: int, device: Device) -> Corrupt:
    return Corrupt(
        f"its swap area says {size} bytes and its place has {device.size}: the image was cut,"
        " or lies; run mkswap in the guest instead"
    )


def _pages(device: Device) -> int:
    """How many pages it has now. Raises for any that is not to be resized."""
    _require_swap(device)
    version, last_page, bad_pages = _HEADER.unpack(device.read(_HEADER_OFFSET, _HEADER.size))
    if version != 1:
        raise Unsupported(
            f"its swap area is of version {version}, or of a big-endian machine; only those of"
            " version 1, little-endian, can be resized: run mkswap in the guest instead"
        )
    if bad_pages:
        raise Unsupported(
            f"its swap area lists {bad_pages} bad pages, which virtual disks do not have; run"
            " mkswap in the guest first"
        )
    if not 0 < last_page < device.size // _PAGE:
        raise _cut((last_page + 1) * _PAGE, device)
    return int(last_page) + 1


def _require_swap(device: Device) -> None:
    """Raises unless its first page ends with the mark of a swap area that is only that."""
    mark = device.read(_MARK_OFFSET, len(_MARK))
    if mark.startswith(_SUSPENDED) or device.read(0, len(_TUX_ON_ICE)) == _TUX_ON_ICE:
        raise _suspended()
    if mark != _MARK:
        raise Unsupported(
            f"its swap area has no mark at the end of its first {_PAGE} bytes: one with pages of"
            " another size cannot be resized; run mkswap in the guest instead"
        )


def _resize(device: Device, present: int, wanted: int) -> Resized:
    if wanted != present:
        _write_last_page(device, wanted - 1)
    os.fsync(device.fd)  # also what an agent wrote that died before it could flush that
    return Resized(wanted * _PAGE, changed=wanted != present)


def _write_last_page(device: Device, last_page: int) -> None:
    fd = os.open(device.path, os.O_WRONLY | os.O_CLOEXEC)  # the caller's may be for reading
    try:
        os.pwrite(fd, last_page.to_bytes(4, "little"), device.start + _LAST_PAGE_OFFSET)
        os.fsync(fd)
    finally:
        os.close(fd)
