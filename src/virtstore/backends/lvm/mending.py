"""Changes of several steps that a crash can cut short, and how the next agent ends them.

Each begins by marking the volume and ends by taking the mark away (marks.py); `mend`
does what is missing, or goes back where nothing has happened yet. A thin pool is mended, too:
see volumes.py for what a crash within a step leaves there.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.backends.lvm import exception_store, growth
from virtstore.backends.lvm.growth import unzeroed
from virtstore.backends.lvm.marks import (
    DRAFT,
    PARTIAL,
    REMOVING,
    REPLACED,
    REPLACED_SUFFIX,
    REWORK,
    SHRINKING,
    copier,
    image_name,
    is_exception_store,
    is_growing,
    is_orphaned,
    is_partial,
    is_replaced,
    is_reworked,
    is_undo,
    zero_from,
)
from virtstore.backends.lvm.report import Volume
from virtstore.backends.lvm.volume import VolumeImage
from virtstore.backends.lvm.volumes import Volumes
from virtstore.errors import Error, NotFound


def interrupted(volumes: Volumes) -> list[str]:
    """The names of images and pools that `mend` has something to do for. Pools come first: an image
    may be a volume that its pool has yet to make."""
    pools = [pool.name for pool in volumes.behind()]
    return pools + sorted({image_name(v) for v in volumes.all() if _unfinished(v)})


def is_interrupted(volumes: Volumes, name: str) -> bool:
    """Whether `mend` has something to do for an image or a snapshot of it, or for a pool, where
    either may lie."""
    unfinished = any(_unfinished(v) and name in (image_name(v), v.origin) for v in volumes.all())
    return unfinished or bool(volumes.behind())


def mend(volumes: Volumes, name: str) -> None:
    """Finish or undo what was interrupted. The caller holds the image's lock."""
    if any(v.name == name and v.transaction is not None for v in volumes.all()):
        _bring_up_to_date(volumes, name)
    else:
        _mend_image(volumes, name)


def _mend_image(volumes: Volumes, name: str) -> None:
    _remove_leftovers(volumes, name)
    growth.finish(volumes, name)
    replaced = volumes.find(name + REPLACED_SUFFIX)
    if replaced and is_replaced(replaced):
        if volumes.find(name):
            remove(volumes, replaced.name)  # the new one has its name: the last step was missing
        else:
            volumes.rename(replaced.name, name)
    volume = volumes.find(name)
    if volume is None:
        return
    if left := volume.tags & {PARTIAL, DRAFT, REWORK, REPLACED, REMOVING}:
        volumes.untag(name, *sorted(left))


def remove(volumes: Volumes, name: str) -> None:
    """Remove a volume. Of a thick snapshot, what it kept of its origin is zeroed first."""
    if volumes.get(name).type == "lvm-snapshot":
        _split(volumes, name)
    if is_exception_store(volumes.get(name)):
        with volumes.opened(name, partial(VolumeImage, writable=True, exclusive=True)) as store:
            exception_store.wipe(store)
    try:
        volumes.remove(name)
    except Error:
        if volumes.find(name):
            raise  # else somebody else was quicker (see `_split`)


def _bring_up_to_date(volumes: Volumes, pool: str) -> None:
    """Have LVM do in a pool what it had left undone, by making a volume there and removing it. That
    volume looks like a draft, for `clean`, should this be cut short, too."""
    name = pool + PARTIAL_SUFFIX
    if not any(v.name == name and is_partial(v) for v in volumes.all()):
        volumes.make_anything(pool, name, PARTIAL, DRAFT)
    remove(volumes, name)


def _unfinished(volume: Volume) -> bool:
    if copier(volume):
        return is_orphaned(volume)
    if SHRINKING in volume.tags or is_undo(volume):
        return True
    left = is_partial(volume) or is_reworked(volume)
    marked = volume.tags & {PARTIAL, DRAFT, REWORK, REPLACED, REMOVING} and not left
    grown = zero_from(volume) is not None and (is_growing(volume) or unzeroed(volume) is None)
    return bool(marked) or is_exception_store(volume) or grown


def _remove_leftovers(volumes: Volumes, name: str) -> None:
    """Remove snapshots of copies that nobody makes any more, and what was split from an origin."""
    for volume in volumes.all():
        left = is_exception_store(volume) and not copier(volume) and not is_undo(volume)
        ours = is_orphaned(volume) or left
        if ours and image_name(volume) == name:
            # Gone since; or it cannot be zeroed, and that must not keep all else from being done.
            with suppress(NotFound, OSError):
                remove(volumes, volume.name)


def _split(volumes: Volumes, name: str) -> None:
    marked = REMOVING in volumes.get(name).tags
    if not marked:
        volumes.tag(name, REMOVING)
    try:
        volumes.split(name)
    except Error:
        if is_exception_store(volumes.get(name)):
            return  # the guard of a copy was quicker, or the next agent
        if not marked:
            with suppress(Error):
                volumes.untag(name, REMOVING)
        raise
