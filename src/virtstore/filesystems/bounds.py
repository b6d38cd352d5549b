"""The bounds of a file system's size: its device at the most, and to grow, its present size at the
least. Their refusals are the same for every kind."""

from __future__ import annotations

from virtstore.errors import Corrupt, UsageError
from virtstore.filesystems.base import Device
from virtstore.units import format_size


def require_whole(present: int, device: Device) -> None:
    """Raises `Corrupt` where a file system of `present` bytes ends behind its device."""
    if present > device.size:
        raise Corrupt(
            f"its file system says {present} bytes and its place has {device.size}: the image was"
            " cut, and resizing the file system would not bring back what is lost"
        )


def grow_target(
    present: int, device: Device, size: int | None, unit: int = 1, what: str = "file system"
) -> int:
    """Bytes that `what` is to grow to, in whole units of `unit`: `size`, or (None) its whole
    device; `present`, which it has, if that is as much. Raises `UsageError` for a `size` that it
    cannot grow to."""
    if size is not None and size > device.size:
        raise UsageError(
            f"the {what} cannot grow to {size} bytes: its place has {device.size}"
            f" ({format_size(device.size)}), which is the most; grow the image first"
        )
    if size is not None and size < present:
        raise UsageError(
            f"the {what} has {present} bytes ({format_size(present)}), more than the {size} asked"
            " for; shrinkfs makes it smaller, where it can be"
        )
    wanted = device.size if size is None else size
    return max(wanted // unit * unit, present)
