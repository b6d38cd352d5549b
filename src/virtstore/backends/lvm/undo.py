"""A volume that is changed in place, and has its old contents back should that fail.

For as long as it takes, the volume is called NAME.virtstore-shrinking, so that no domain
starts from it, and a snapshot of it, NAME.virtstore-undo, keeps what it held. Afterwards the
snapshot goes and the name comes back. After a failure, and by the next agent after a crash,
what differs from the snapshot is written back first: that can be cut short and begun again,
works for thick and thin alike whoever has the volume open, and leaves a thick snapshot's
exception store to be zeroed, none of which is so with `lvconvert --merge`.

A snapshot that is tagged as on its way out is no longer needed: the change was whole.
"""

from __future__ import annotations

from functools import partial

from virtstore.backends.lvm import mending
from virtstore.backends.lvm.marks import REMOVING, SHRINKING, SHRINKING_SUFFIX, UNDO, UNDO_SUFFIX
from virtstore.backends.lvm.report import Volume
from virtstore.backends.lvm.volume import VolumeImage
from virtstore.backends.lvm.volumes import Volumes
from virtstore.digest import CHUNK
from virtstore.errors import Error


def has_room(volumes: Volumes, name: str) -> bool:
    """Whether there is room for a snapshot that cannot run full, whatever is written to the volume.
    LVM is asked anew: looking into the image took its time."""
    volume = volumes.fresh(name)
    if volume.pool is None:
        return volumes.has_room_for_a_whole_snapshot(volume)
    pool = next(v for v in volumes.all() if v.name == volume.pool)
    return pool.size - pool.allocated > volume.allocated


def begin(volumes: Volumes, name: str) -> str:
    """Hide the volume and take a snapshot of it. Returns what the volume is called meanwhile."""
    hidden = name + SHRINKING_SUFFIX
    volumes.tag(name, SHRINKING)
    volumes.rename(name, hidden)
    volumes.snapshot(hidden, name + UNDO_SUFFIX, None, UNDO)
    return hidden


def finish(volumes: Volumes, name: str) -> None:
    """Forget the snapshot, and give the volume its name back: the change is whole."""
    if snapshot := _found(volumes, name + UNDO_SUFFIX, UNDO):
        if snapshot.pool and REMOVING not in snapshot.tags:
            volumes.tag(snapshot.name, REMOVING)  # a thick one's removal begins with that
        mending.remove(volumes, snapshot.name)
    if _found(volumes, name + SHRINKING_SUFFIX, SHRINKING):
        volumes.rename(name + SHRINKING_SUFFIX, name)
    if _found(volumes, name, SHRINKING):
        volumes.untag(name, SHRINKING)


def undo(volumes: Volumes, name: str) -> None:
    """End a change that was interrupted anywhere: with the volume as it was, or the new one if the
    change was whole."""
    volumes.refresh()
    snapshot = _found(volumes, name + UNDO_SUFFIX, UNDO)
    # LVM makes a thick snapshot of a volume of its own, which keeps nothing. If it was stopped, or
    # failed, in between, nothing has been changed yet.
    taken = snapshot is not None and snapshot.origin == name + SHRINKING_SUFFIX
    if snapshot and taken and REMOVING not in snapshot.tags:
        if snapshot.invalid:
            raise Error(
                f"the snapshot that keeps what {name} held has run full, and cannot be used; look"
                f" at {name}{SHRINKING_SUFFIX}, then rename it to {name} (lvrename), remove the tag"
                f" {SHRINKING} and {snapshot.name}"
            )
        _write_back(volumes, snapshot, name + SHRINKING_SUFFIX)
    finish(volumes, name)


def _write_back(volumes: Volumes, snapshot: Volume, name: str) -> None:
    with (
        volumes.opened(snapshot.name, VolumeImage) as old,
        volumes.opened(name, partial(VolumeImage, writable=True, exclusive=True)) as volume,
    ):
        for offset in range(0, old.size, CHUNK):
            block = old.read_at(offset, CHUNK)
            if volume.read_at(offset, len(block)) != block:
                volume.write_at(offset, block)
        volume.flush()


def _found(volumes: Volumes, name: str, tag: str) -> Volume | None:
    return next((v for v in volumes.all() if v.name == name and tag in v.tags), None)
