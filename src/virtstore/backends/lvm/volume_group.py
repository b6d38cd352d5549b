"""Images that are logical volumes, thick and thin.

What is not finished is marked (marks.py), and every step is one LVM command, which is
all or nothing (volumes.py): so what a crash leaves can be read off the marks, and `mend`
finishes or undoes it (mending.py).

Sources: lvcreate(8), lvrename(8), lvmthin(7). Host tools needed: lvm.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    Capabilities,
    Image,
    Look,
    Store,
    Stored,
    nothing,
)
from virtstore.backends.guard import Guard
from virtstore.backends.lvm import growth, mending, names, report, undo
from virtstore.backends.lvm.drafts import ReworkedVolume, Snapshot, VolumeDraft
from virtstore.backends.lvm.marks import (
    COPYING,
    COPYING_INFIX,
    DRAFT,
    GROWING_SUFFIX,
    LOST,
    PARTIAL,
    REMOVING,
    REPLACED,
    REPLACED_SUFFIX,
    REWORK,
    SHRINKING_SUFFIX,
    UNDO_SUFFIX,
    check_name,
    copier,
    image_name,
    is_hidden,
    is_partial,
    is_reworked,
    lost_tags,
    strange_tags,
    was_image,
)
from virtstore.backends.lvm.report import Group, Volume
from virtstore.backends.lvm.volume import VolumeImage
from virtstore.backends.lvm.volumes import Volumes
from virtstore.backends.owner import Owner
from virtstore.errors import Error, Exists, InUse, LeftRunning, NotFound, Unsupported
from virtstore.model import ThinPool
from virtstore.undo import undone_by

#: The module that is the process of a guard.
_WATCH: Final = "virtstore.backends.lvm.watch"
_FIXED: Final = (
    "it is a snapshot with an exception store: it has the size that its origin had, for good;"
    " 'virtstore copy' makes an image of it that can be resized"
)


class VolumeGroup(Store):
    """A volume group as a store of images."""

    capabilities = Capabilities(
        always_raw=True,
        noun="a volume",
        sized_snapshots=True,
        thin_pools=True,
        unnote=f"lvchange --deltag {LOST}{{note}} {{path}}",
    )

    def __init__(self, name: str) -> None:
        """Asks nothing of LVM: where there is no such group, the first use says so."""
        self.name = name
        self._volumes = Volumes(name)

    def close(self) -> None:
        """Nothing is held open; what was inactive is so again."""
        self._volumes.give_back()

    def refresh(self) -> None:
        self._volumes.refresh()

    def identity(self, name: str) -> str:
        return f"lvm:{self.name}/{name}"

    @property
    def room(self) -> Group:
        """The group as a whole, as LVM reports it."""
        return self._volumes.room

    def thin_pools(self) -> tuple[ThinPool, ...]:
        return report.thin_pools(self._volumes.report())

    def free(self) -> int:
        return self.room.free

    def rounded(self, size: int) -> int:
        return self._volumes.rounded(size)

    def scan(self) -> Iterator[Stored]:
        for volume in self._volumes.all():
            if volume.type and not is_hidden(volume):
                yield self._stored(volume)

    def find(self, name: str) -> Stored | None:
        self._volumes.find(name)  # refuses what is no image
        return super().find(name)

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> VolumeImage:
        found = self._left(name) if partial else self._volumes.get(name)
        if found is None:
            raise NotFound("no such image")
        return self._volumes.opened(found.name, lambda v: VolumeImage(v, writable=writable))

    def require_name(self, name: str) -> None:
        check_name(name)
        names.refuse_too_long(self.name, name)

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> VolumeDraft:
        _refuse_sparse(sparse)
        self.require_name(name)
        names.refuse_taken(self._volumes, name)
        file, found = name + PARTIAL_SUFFIX, self._draft_of(name)
        if found and found.size == self._volumes.rounded(size) and not found.origin:
            if DRAFT not in found.tags:
                self._volumes.tag(found.name, DRAFT)
            return self._opened(name)
        self.discard(name)
        replaced = self._volumes.find(name)
        pool = thin or (replaced.pool if replaced else None)
        self._volumes.create(file, size, pool, PARTIAL, DRAFT)
        volume = self._volumes.activated(file)
        blank = volume.type == "lvm-thin" and volume.zeroes
        return VolumeDraft(self, name, volume, "zeros" if blank else "unknown")

    def rework(
        self, name: str, before: Callable[[Image], None] = lambda image: None
    ) -> VolumeDraft:
        if self._volumes.find(name) is None:
            return self._reworked_before(name)
        check_name(name)
        names.refuse_too_long(self.name, name, [REWORK_SUFFIX])
        if self._left(name):
            raise InUse(
                "an interrupted operation left a partial volume beside this one;"
                " remove it with 'virtstore clean'"
            )
        names.refuse_taken(self._volumes, name)
        reworked = self._volumes.opened(name, lambda v: ReworkedVolume(self, name, v))
        reworked.in_place.begin(before)
        return reworked

    def require_new_names(self) -> None:
        """LVM's rename replaces nothing."""

    def hide(self, name: str) -> None:
        """Take an image's final name from it."""
        self._volumes.tag(name, REWORK)
        self._volumes.rename(name, name + REWORK_SUFFIX)

    def show(self, name: str) -> None:
        """Give an image its final name back."""
        self._volumes.rename(name + REWORK_SUFFIX, name)
        self._volumes.untag(name, REWORK)

    def publish(self, name: str, *, overwrite: bool) -> None:
        """Give the draft of `name` that name. An image that had the name is removed, and so is an
        image that an interrupted change left hidden."""
        gone = self._out_of_the_way(name) if overwrite else []
        try:
            self._volumes.rename(name + PARTIAL_SUFFIX, name)  # replaces nothing
        except LeftRunning:
            raise
        except Error:
            if self._volumes.find(name):
                raise FileExistsError(errno.EEXIST, "File exists", name) from None
            raise
        self._volumes.untag(name, PARTIAL, DRAFT)
        # Whoever reads the old image goes on reading it; it goes when `mend` can remove it.
        for volume in gone:
            with suppress(InUse):
                mending.remove(self._volumes, volume)

    def _out_of_the_way(self, name: str) -> list[str]:
        """Take the name from the image that has it. Returns the name of what is to be removed once
        the draft has it."""
        replaced, left = self._volumes.find(name), self._reworked(name)
        old = replaced or left
        if old and (kept := strange_tags(old)):
            self._volumes.tag(name + PARTIAL_SUFFIX, *kept)
        if replaced:
            self._volumes.tag(name, REPLACED)
            self._volumes.rename(name, name + REPLACED_SUFFIX)
        gone = [name + REPLACED_SUFFIX] if replaced else []
        return [*gone, left.name] if left else gone

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        self._volumes.get(name)
        found = [v for v in self._snapshots(name) if with_snapshots]
        if used := [v.name for v in found if v.open]:
            raise InUse(f"somebody has a snapshot of it open ({', '.join(used)})")
        for snapshot in found:
            mending.remove(self._volumes, snapshot.name)
        mending.remove(self._volumes, name)

    def rename(self, name: str, new: str) -> None:
        self._volumes.get(name)
        names.refuse_taken(self._volumes, new)
        try:
            self._volumes.rename(name, new)  # replaces nothing
        except LeftRunning:
            raise
        except Error:
            if any(volume.name == new for volume in self._volumes.all()):
                raise FileExistsError(errno.EEXIST, "File exists", new) from None
            raise

    def discard(self, name: str, *, was_image: bool = False) -> None:
        found = [self._draft_of(name), self._reworked(name) if was_image else None]
        for volume in filter(None, found):
            mending.remove(self._volumes, volume.name)
        if not any(found) and (hidden := names.hidden(self._volumes, name)):
            raise names.being_changed(hidden)

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        _refuse_sparse(sparse)
        wanted, volume = self._volumes.rounded(size), self._volumes.get(name)
        if wanted > volume.size:
            _refuse_fixed(volume)
        if wanted > volume.size or growth.unzeroed(volume) is not None:
            names.refuse_taken(self._volumes, name)
            if not in_use:
                names.refuse_too_long(self.name, name, [GROWING_SUFFIX])
            growth.grow(self._volumes, name, wanted, in_use=in_use, between=between)

    def unzeroed(self, name: str) -> int | None:
        volume = self._volumes.find(name)
        return growth.unzeroed(volume) if volume else None

    def losses(self, name: str) -> str:
        volume = self._volumes.find(name)
        return next((tag.removeprefix(LOST) for tag in lost_tags(volume)), "") if volume else ""

    def note_losses(self, name: str, note: str) -> bool:
        """`name` may also be what a draft is called."""
        old, new = lost_tags(self._volumes.get(name)), [f"{LOST}{note}"] if note else []
        if old != new:
            self._volumes.retag(name, old, new)
        return True

    def shrink(self, name: str, size: int) -> None:
        volume = self._volumes.get(name)
        wanted = self._volumes.rounded(size)
        if wanted < volume.size:
            _refuse_fixed(volume)
            self._volumes.reduce(name, wanted)
            growth.finish(self._volumes, name)

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        self.require_name(new)
        names.refuse_too_long(self.name, name, [""])
        if self._volumes.find(new):
            raise Exists(f"{new} is there already")
        names.refuse_taken(self._volumes, new)
        self.discard(new)
        tags = (PARTIAL, DRAFT, *lost_tags(self._volumes.get(name)))
        self._volumes.snapshot(name, new + PARTIAL_SUFFIX, size, *tags)
        with undone_by(lambda: self.discard(new)):
            self.publish(new, overwrite=False)

    def frozen(self, name: str) -> Snapshot:
        names.refuse_too_long(self.name, name, [names.COPYING_SUFFIX])
        owner = Owner.here()
        new = f"{name}{COPYING_INFIX}{owner.pid}"
        removing = () if self._volumes.get(name).pool else (REMOVING,)
        watch = Guard(_WATCH, self.name, new)  # before there is a snapshot: it is never without one
        with ExitStack() as undo:
            undo.callback(watch.dismiss)
            self._volumes.snapshot(name, new, None, COPYING + owner.text, *removing)
            undo.callback(self.drop, new)
            snapshot = self._volumes.opened(new, lambda volume: Snapshot(self, volume, watch))
            undo.pop_all()
        return snapshot

    @contextmanager
    def guarded(self, name: str, end: int, contents: str) -> Iterator[str]:
        if not undo.has_room(self._volumes, name):
            yield name
            return
        names.refuse_too_long(self.name, name, [SHRINKING_SUFFIX, UNDO_SUFFIX])
        names.refuse_taken(self._volumes, name)
        with undone_by(lambda: undo.undo(self._volumes, name)):
            yield undo.begin(self._volumes, name)
        undo.finish(self._volumes, name)

    def drop(self, name: str) -> None:
        """Remove a snapshot that a copy was made from, if it is there and one of these."""
        self.refresh()
        if (found := self._volumes.find(name)) and copier(found):
            mending.remove(self._volumes, name)

    def lost(self, snapshot: Volume) -> bool:
        """Whether what a snapshot held is gone: LVM drops one whose exception store is full."""
        self.refresh()
        return self._volumes.get(snapshot.name).invalid

    def pool_is_full(self, volume: Volume) -> bool:
        """Whether a thin volume's pool has no room for what is written to it."""
        self.refresh()
        pools = (v for v in self._volumes.all() if v.name == volume.pool)
        return any(pool.allocated >= pool.size for pool in pools)

    def interrupted(self) -> list[str]:
        return mending.interrupted(self._volumes)

    def is_interrupted(self, name: str) -> bool:
        """Also where a thin pool is to be mended: what an image there needs may be yet to come."""
        return mending.is_interrupted(self._volumes, name)

    def mend(self, name: str) -> None:
        undo.undo(self._volumes, name)
        mending.mend(self._volumes, name)

    def _draft_of(self, name: str) -> Volume | None:
        file = name + PARTIAL_SUFFIX
        return next((v for v in self._volumes.all() if v.name == file and is_partial(v)), None)

    def _reworked(self, name: str) -> Volume | None:
        file = name + REWORK_SUFFIX
        return next((v for v in self._volumes.all() if v.name == file and is_reworked(v)), None)

    def _left(self, name: str) -> Volume | None:
        """The volume that is left of a partial image. What is left of an image goes before a
        draft."""
        return self._reworked(name) or self._draft_of(name)

    def _reworked_before(self, name: str) -> ReworkedVolume:
        """The volume that an earlier rework left. Raises `NotFound`."""
        if not self._left(name):
            raise NotFound("no such image")
        if not self._reworked(name):  # an older version's, maybe
            self._volumes.tag(name + PARTIAL_SUFFIX, REWORK)
            self._volumes.rename(name + PARTIAL_SUFFIX, name + REWORK_SUFFIX)
            self._volumes.untag(name + REWORK_SUFFIX, PARTIAL, DRAFT)
        left = name + REWORK_SUFFIX
        return self._volumes.opened(left, lambda v: ReworkedVolume(self, name, v))

    def _opened(self, name: str) -> VolumeDraft:
        """The draft that is there, opened. Raises `NotFound`."""
        found = self._draft_of(name)
        if found is None:
            raise NotFound("no such image")
        return self._volumes.opened(found.name, lambda v: VolumeDraft(self, name, v, "kept"))

    def _snapshots(self, name: str) -> list[Volume]:
        return [v for v in self._volumes.all() if v.origin == name and not copier(v)]

    def _stored(self, volume: Volume) -> Stored:
        assert volume.type
        dependents = self._paths(self._volumes.dependents(volume.name))
        return Stored(
            name=image_name(volume),
            type=volume.type,
            state="partial" if names.is_unfinished(volume) else "complete",
            was_image=was_image(volume),
            size=volume.size,
            allocated=volume.allocated,
            identity=(os.makedev(*volume.device), 0) if volume.active else (0, 0),
            snapshot_of=f"/dev/{self.name}/{volume.origin}" if volume.origin else None,
            snapshots=self._paths(v.name for v in self._snapshots(volume.name)),
            dependents=dependents,
            held_by=dependents,
            active=volume.active,
            fixed=_FIXED if _is_fixed(volume) else None,
            lacks=self._lacks(volume),
        )

    def _lacks(self, volume: Volume) -> str | None:
        if not volume.partial:
            return None
        return self.room.missing or "a physical volume is missing"

    def _paths(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(f"/dev/{self.name}/{name}" for name in names))


def _is_fixed(volume: Volume) -> bool:
    return volume.type == "lvm-snapshot"


def _refuse_sparse(sparse: bool) -> None:
    if sparse:
        raise Unsupported("a volume group reserves its volumes, but for those in a thin pool")


def _refuse_fixed(volume: Volume) -> None:
    """Raises for a thick snapshot: lvextend and lvreduce would act on its exception store, and
    lvreduce cuts through what the snapshot has kept in it."""
    if _is_fixed(volume):
        raise Unsupported(_FIXED)
