"""Changes of several steps that a crash can cut short, and how the next agent ends them (marks.py).

What another host is working on just now looks the same. So whatever has a watcher is left alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from virtstore.backends.base import REWORK_SUFFIX
from virtstore.backends.rbd import marks
from virtstore.backends.rbd.images import Images
from virtstore.backends.rbd.marks import (
    REPLACED_BY,
    REPLACED_SUFFIX,
    SHRINKING_SUFFIX,
    UNDO,
)
from virtstore.backends.rbd.report import Facts, Listed, Snapshot
from virtstore.errors import Error, InUse, NotFound

_MARKED: Final = (REPLACED_SUFFIX, SHRINKING_SUFFIX)


def interrupted(images: Images) -> list[str]:
    """The names of images that `mend` has something to do for."""
    found = [each.name for each in images.all() if _unfinished(each)]
    begun = [each.name for each in images.removals]
    return sorted({marks.image_name(name) for name in (*found, *begun)})


def mend(images: Images, name: str) -> None:
    """Finish or undo what was interrupted. The caller holds the image's lock."""
    _finish_removals(images, name)
    _drop_orphans(images, name)
    undo(images, name)
    _settle_replaced(images, name)


def put_aside(images: Images, name: str, successor: str) -> None:
    """Take the name from an image that the image with the id `successor` is to replace. Raises
    `InUse` where that would be lost with it which others need."""
    replaced = images.find(name)
    if replaced is None:
        return
    refuse_replacing(images, replaced)
    if watchers := images.watchers(replaced):
        who = ", ".join(each.detail for each in watchers)
        raise InUse(f"somebody has the image open that it is to replace ({who})")
    images.rename(name, name + REPLACED_SUFFIX)
    images.mark(name + REPLACED_SUFFIX, REPLACED_BY, successor)


def refuse_replacing(images: Images, image: Listed) -> Facts:
    """The facts of an image that is to be replaced. Raises as `refuse_removal`, and `InUse` for one
    with which that would be lost which others need."""
    facts = refuse_removal(images, image, with_snapshots=False)
    if facts.mirroring:
        raise InUse(
            "it is mirrored, and what replaced it would not be; 'virtstore copy-contents' changes"
            " it as it is, 'rbd mirror image disable' ends the mirroring"
        )
    return facts


def refuse_removal(images: Images, image: Listed, *, with_snapshots: bool) -> Facts:
    """The facts of an image that is to be removed. Raises `InUse` for one that has snapshots, as
    `refuse_snapshots`, and for one that Ceph does not remove, as others than its users count on it.
    Raises `Denied` for one of which `rbd rm` would remove the name and leave the contents."""
    refuse_snapshots(images, image, with_snapshots=with_snapshots)
    facts = images.facts(image.name)
    hidden = facts.snapshot_count - len(image.snapshots)
    if "migrating" in facts.features:
        why = "it is being migrated; 'rbd migration commit' or 'rbd migration abort' ends that"
    elif facts.mirroring and not facts.mirroring.primary:
        why = (
            "it is the mirror of an image of another cluster; 'rbd mirror image status' shows that,"
            " 'rbd mirror image disable' ends it"
        )
    elif facts.group:
        why = f"it is in the group {facts.group}; 'rbd group image rm' takes it out of that"
    elif hidden and not facts.mirroring:
        why = (
            "images lie over a snapshot of it that was removed; 'rbd children --all' shows these,"
            " 'rbd flatten' makes them whole"
        )
    else:
        images.require_contents(facts)
        return facts
    raise InUse(why)


def refuse_snapshots(images: Images, image: Listed, *, with_snapshots: bool) -> None:
    """Raises `InUse` for an image that has snapshots, unless they are to go too, and for one of
    which a snapshot cannot be removed."""
    ours = [each.name for each in image.snapshots if marks.is_ours(each.name)]
    if ours:
        raise InUse(f"a copy is made of it just now, or was cut short ({', '.join(ours)})")
    if image.snapshots and not with_snapshots:
        names = ", ".join(f"{image.name}@{each.name}" for each in image.snapshots)
        raise InUse(f"it has snapshots ({names}), which would be lost with it")
    for each in image.snapshots:
        refuse_clones(images, image, each)


def refuse_clones(images: Images, image: Listed, snapshot: Snapshot) -> None:
    """Raises `InUse` for a snapshot that is protected, or that images lie over."""
    named = f"{image.name}@{snapshot.name}"
    if clones := images.clones(image.name, snapshot.name):
        raise InUse(
            f"images lie over {named} ({', '.join(clones)}), which would be worthless without it;"
            " 'rbd flatten' makes them whole"
        )
    if snapshot.protected:
        raise InUse(f"{named} is protected; 'rbd snap unprotect' allows to remove it")


def undo(images: Images, name: str) -> None:
    """End a change under guard that was interrupted anywhere: with the image as it was, or the new
    one if the change was whole."""
    images.refresh()
    hidden = images.find(name + SHRINKING_SUFFIX)
    if hidden and any(each.name == UNDO for each in hidden.snapshots):
        _refuse_watched(images, hidden)
        images.roll_back(hidden.name, UNDO)
    finish(images, name)


def finish(images: Images, name: str) -> None:
    """Forget the snapshot, and give the image its name back: the change is whole."""
    hidden = images.find(name + SHRINKING_SUFFIX)
    if hidden is None:
        return
    if any(each.name == UNDO for each in hidden.snapshots):
        images.remove_snapshot(hidden.name, UNDO)
    images.rename(hidden.name, name)


def _unfinished(image: Listed) -> bool:
    if image.name.endswith(_MARKED):
        return True
    return any(marks.is_orphaned(each.name) for each in image.snapshots)


def _finish_removals(images: Images, name: str) -> None:
    images.all()
    for removal in images.removals:
        if marks.image_name(removal.name) == name:
            images.finish(removal)


def _drop_orphans(images: Images, name: str) -> None:
    """Remove snapshots of copies that nobody makes any more."""
    for file in (name, name + REWORK_SUFFIX):
        image = images.find(file)
        for snapshot in image.snapshots if image else ():
            if marks.is_orphaned(snapshot.name):
                with suppress(NotFound):
                    images.remove_snapshot(file, snapshot.name)


def _settle_replaced(images: Images, name: str) -> None:
    replaced = images.find(name + REPLACED_SUFFIX)
    if replaced is None:
        return
    successor = images.metadata(replaced.name).get(REPLACED_BY)
    present = images.find(name)
    if present and present.id == successor:
        images.remove(replaced.name)  # the last step was missing
    elif present is None:
        if successor:
            images.mark(replaced.name, REPLACED_BY, "")
        images.rename(replaced.name, name)
    else:
        raise Error(
            f"{replaced.name} is an old image of that name, and what has its name now is not what"
            " replaced it; look at both, and rename or remove one ('rbd rename', 'rbd rm')"
        )


def _refuse_watched(images: Images, image: Listed) -> None:
    if watchers := images.watchers(image):
        who = ", ".join(each.detail for each in watchers)
        raise InUse(f"somebody has {image.name} open for writing ({who})")
