"""Moments of RBD images that are kept as snapshots, and what was written to an image since one.

`rbd diff` compares two snapshots object by object. Without `--whole-object` it asks the cluster for
each object, and heeds no object map, which may be out of date. Of an object that was there at the
earlier moment it tells which bytes were written, given back or cut off since; of one that was not,
it may tell of more.

What it does not tell of is a clone's parent: a clone that was cut and made longer again reads zeros
where it showed its parent before, and none of its own objects was touched. So of a clone something
is told only where it shows as much of the same parent as it did then.

Sources: rbd(8); librbd's DiffIterate. Host tools needed: rbd.
"""

from __future__ import annotations

from contextlib import suppress

from virtstore.backends.base import Changed, Moment
from virtstore.backends.guard import Guard
from virtstore.backends.rbd import mending
from virtstore.backends.rbd.image import Pool, RbdImage
from virtstore.backends.rbd.images import Images
from virtstore.backends.rbd.report import Listed, Snapshot
from virtstore.errors import Exists, NotFound


def changed(images: Images, image: Listed, then: str, now: Snapshot) -> Changed | None:
    """What may have changed from the snapshot `then` to a later one, `now`. None where there is no
    such snapshot, or that cannot be told."""
    found = {each.name: each for each in image.snapshots}.get(then)
    if found is None or found.id >= now.id:
        return None
    with suppress(NotFound):  # another host may have removed it just now
        before, after = (images.parent(image.name, each) for each in (then, now.name))
        if before in (None, after):
            end = min(found.size, now.size)
            return Changed(found.size, images.changes(image.name, then, now.name, end))
    return None


def remove_others(images: Images, name: str, kept: str, beginning: str) -> None:
    """Remove the snapshots of an image whose names have this beginning, but for one. Raises `InUse`
    for one that clones lie over."""
    present = images.get(name)
    for each in present.snapshots:
        if each.name.startswith(beginning) and each.name != kept:
            mending.refuse_clones(images, present, each)
            with suppress(NotFound):  # another host may have removed it just now
                images.remove_snapshot(name, each.name)


class FrozenRbd(RbdImage):
    """A snapshot that is removed when it is closed, and before that by its guard or the next agent
    should this process not live to do it."""

    def __init__(self, pool: Pool, image: Listed, snapshot: Snapshot, watch: Guard) -> None:
        super().__init__(pool, image, snapshot)
        self._watch = watch

    def close(self) -> None:
        if self._open and self._snapshot:
            super().close()
            self.drop()
            self._watch.dismiss()

    def drop(self) -> None:
        """Remove the snapshot."""
        assert self._snapshot
        self._pool.drop(self._image.name, self._snapshot.name)


class RbdMoment(FrozenRbd, Moment):
    """A snapshot that is gone when it is closed, unless it was kept."""

    _kept = False

    def changed_since(self, kept: str) -> Changed | None:
        assert self._snapshot
        return changed(self._pool.images, self._present, kept, self._snapshot)

    def keep(self, kept: str, beginning: str) -> None:
        assert self._snapshot
        images, name = self._pool.images, self._present.name
        with suppress(Exists):  # one of the same contents, that stays: this one goes
            images.rename_snapshot(name, self._snapshot.name, kept)
            self._snapshot, self._kept = self._snapshot._replace(name=kept), True
        remove_others(images, name, kept, beginning)

    def drop(self) -> None:
        if not self._kept:
            super().drop()

    @property
    def _present(self) -> Listed:
        """The image by the name that it has now."""
        present = self._pool.now(self._image)
        if present is None:
            raise NotFound("the image is gone")
        return present
