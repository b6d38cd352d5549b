"""A volume grows, and nobody can use its new space before that is zero.

For as long as it takes, the volume is called NAME.virtstore-growing, so that no domain starts
from it and writes where zeros are still to come: what a crash leaves can be finished without
looking at what is in it. One that somebody has open keeps its name. If that is cut short, its
new space is left alone: by then it may hold a guest's data. A tag says from where on it is not
zeroed, and whoever asks for it to grow again, with nobody using it, has that done.
"""

from __future__ import annotations

from functools import partial

from virtstore.backends.base import Look, nothing
from virtstore.backends.lvm.marks import GROWING_SUFFIX, ZERO, is_growing, zero_from
from virtstore.backends.lvm.report import Volume
from virtstore.backends.lvm.volume import VolumeImage
from virtstore.backends.lvm.volumes import Volumes
from virtstore.errors import InUse
from virtstore.undo import undone_by

#: Bytes that are zeroed between two looks at who uses the volume.
_STEP = 256 << 20


def grow(volumes: Volumes, name: str, size: int, *, in_use: bool, between: Look) -> None:
    """Make a volume `size` bytes long, if it is shorter, and zero what was added, also by a growth
    that was cut short. A failure leaves the old size, unless the volume is `in_use`: then its new
    space stays, of which nobody knows what is zeroed."""
    volume = volumes.get(name)
    start = zero_from(volume)
    if start is None:
        start = volume.size
        volumes.tag(name, f"{ZERO}{start}")
    hidden = name if in_use else name + GROWING_SUFFIX

    def undo() -> None:
        volumes.refresh()
        found = None if in_use else _hidden(volumes, name)
        if found and found.size > volume.size:
            volumes.reduce(hidden, volume.size)
        _settle(volumes, name, found.name if found else name)

    with undone_by(undo):
        if not in_use:
            volumes.rename(name, hidden)  # which LVM may refuse, though it let the tag be added
        if size > volume.size:
            volumes.extend(hidden, size)
        _zero(volumes, hidden, start, between)
    _show(volumes, name, hidden)


def finish(volumes: Volumes, name: str) -> None:
    """End a growth that a crash cut short: zero what nobody can have used, and give the volume its
    name back. Raises `InUse` where somebody has it open all the same."""
    if volume := _hidden(volumes, name):
        if volume.open:
            raise InUse(f"somebody has {volume.name} open, which is not zeroed yet")
        start = zero_from(volume)
        assert start is not None
        _zero(volumes, volume.name, start, nothing)
        _show(volumes, name, volume.name)
    elif volume := volumes.find(name):
        _settle(volumes, name, name)


def unzeroed(volume: Volume) -> int | None:
    """The byte from which on a volume may hold old data of others; None for nowhere."""
    start = zero_from(volume)
    return start if start is not None and start < volume.size else None


def _settle(volumes: Volumes, name: str, hidden: str) -> None:
    """Give the volume its name back if nothing is left to be zeroed."""
    if unzeroed(volumes.get(hidden)) is None:
        _show(volumes, name, hidden)


def _show(volumes: Volumes, name: str, hidden: str) -> None:
    """Give the volume, all of which is zeroed, its name back, and take its mark away."""
    volume = volumes.get(hidden)
    start = zero_from(volume)
    if hidden != name:
        if start is not None and start < volume.size:
            # Under its name, nothing may say that there is something left to be zeroed.
            volumes.retag(hidden, [f"{ZERO}{start}"], [f"{ZERO}{volume.size}"])
            start = volume.size
        volumes.rename(hidden, name)
    if start is not None:
        volumes.untag(name, f"{ZERO}{start}")


def _zero(volumes: Volumes, name: str, start: int, between: Look) -> None:
    volume = volumes.get(name)
    if volume.size <= start:
        return
    with volumes.opened(name, partial(VolumeImage, writable=True)) as image:
        # Also in a pool that zeroes: what an earlier shrink cut off is still mapped.
        mapped_only = volume.pool is not None and volume.zeroes
        zero = image.zero_data if mapped_only else image.zero
        for offset in range(start, volume.size, _STEP):
            between()
            zero(offset, min(_STEP, volume.size - offset))
        image.flush()


def _hidden(volumes: Volumes, name: str) -> Volume | None:
    wanted = name + GROWING_SUFFIX
    return next((v for v in volumes.all() if v.name == wanted and is_growing(v)), None)
