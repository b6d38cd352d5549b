"""Images that are RBD images of one pool of a Ceph cluster.

What is not finished is marked (marks.py), and every step is one `rbd` command (images.py): so what
a crash leaves is seen in the pool's listing, and `mend` finishes or undoes it (mending.py).

Our locks count on one host only, and a pool has many. What keeps two hosts apart: nobody can give
two images one name, and whoever writes to an image shows among its watchers. So a draft that has a
watcher is another's, and is neither gone on with nor removed.

A snapshot has the name `IMAGE@SNAPSHOT`. It cannot be written, and its image cannot be removed
before it.

Sources: rbd(8); Ceph's documentation, "Block Device". Host tools needed: rbd, rados, ceph-conf.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import msgspec

from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    Capabilities,
    Image,
    Look,
    nothing,
)
from virtstore.backends.guard import Guard
from virtstore.backends.rbd import marks, mending
from virtstore.backends.rbd.drafts import RbdDraft, ReworkedRbd, opened
from virtstore.backends.rbd.image import RbdImage
from virtstore.backends.rbd.looking import FIXED, ListedPool, note_of
from virtstore.backends.rbd.moments import RbdMoment
from virtstore.backends.rbd.report import Listed, Snapshot
from virtstore.errors import Exists, InUse, NotFound, Unsupported
from virtstore.undo import undone_by

#: The module that is the process of a guard.
_WATCH: Final = "virtstore.backends.rbd.watch"
#: Each has a daemon of its own, of some 40 MB.
_AT_ONCE: Final = 8


class RbdPool(ListedPool):
    """A pool as a store of images."""

    capabilities = Capabilities(
        always_raw=True,
        noun="an RBD image",
        reserves=False,
        at_once=_AT_ONCE,
        keeps_moments=True,
        unnote=f"rbd image-meta remove {{path}} {marks.LOST}",
    )

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> RbdImage:
        image, snapshot = self._found(name, partial=partial)
        if snapshot and writable:
            raise Unsupported(FIXED)
        return RbdImage(self, image, snapshot, writable=writable)

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> RbdDraft:
        _refuse_sparse(sparse)
        if thin:
            raise Unsupported("an RBD pool has no thin pools; nothing in it is reserved anyway")
        self.require_name(name)
        self.require_attributes(name)
        self._refuse_taken(name)
        replaced = self.images.find(name)
        like = mending.refuse_replacing(self.images, replaced) if replaced else None
        size, file = self.rounded(size), name + PARTIAL_SUFFIX
        found = self.images.find(file)
        if found and found.size == size and not found.parent and not found.broken:
            self._refuse_watched(file)
            return opened(self, name, "kept")
        self.discard(name)
        try:
            self.images.create(file, size, like)
        except Exists:
            raise InUse("somebody on another host makes an image of that name just now") from None
        with undone_by(lambda: self.discard(name)):
            return opened(self, name, "zeros")

    def rework(
        self, name: str, before: Callable[[Image], None] = lambda image: None
    ) -> ReworkedRbd:
        image, snapshot = self.images.find(name), marks.parts(name)[1]
        if snapshot:
            self._found(name)
            raise Unsupported(FIXED)
        if image is None:
            return self._reworked_before(name)
        marks.refuse_ours(name)
        if self._left(name):
            raise InUse(
                "an interrupted operation left a partial image beside this one;"
                " remove it with 'virtstore clean'"
            )
        self._refuse_taken(name)
        reworked = ReworkedRbd(self, image, name)
        reworked.in_place.begin(before)
        return reworked

    def _reworked_before(self, name: str) -> ReworkedRbd:
        """What an earlier rework left. Raises `NotFound`."""
        left = self._left(name)
        if left is None:
            raise NotFound("no such image")
        self._refuse_watched(left.name)
        if not left.name.endswith(REWORK_SUFFIX):  # an older version's, maybe
            self.images.rename(left.name, name + REWORK_SUFFIX)
        return ReworkedRbd(self, self.images.get(name + REWORK_SUFFIX), name)

    def hide(self, name: str) -> None:
        """Take an image's final name from it."""
        self.images.rename(name, name + REWORK_SUFFIX)

    def show(self, name: str) -> None:
        """Give an image its final name back."""
        self.images.rename(name + REWORK_SUFFIX, name)

    def publish(self, image: Listed, name: str, *, overwrite: bool) -> None:
        """Give a draft its final name. An image that had the name is removed, and so is what an
        interrupted change left of one."""
        self.refresh()
        if overwrite:
            mending.put_aside(self.images, name, image.id)
        try:
            self.images.rename(name + PARTIAL_SUFFIX, name)  # replaces nothing
        except Exists:
            raise FileExistsError(errno.EEXIST, "File exists", name) from None
        if not overwrite:
            return
        # Whoever reads the old image goes on reading it; it goes when `mend` can remove it.
        for suffix in (marks.REPLACED_SUFFIX, REWORK_SUFFIX):
            old = self.images.find(name + suffix)
            if old and not self._opened[old.id]:
                with suppress(InUse):
                    self.images.remove(old.name)

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        image, snapshot = self._found(name)
        if snapshot:
            mending.refuse_clones(self.images, image, snapshot)
            self.images.remove_snapshot(image.name, snapshot.name)
            return
        self._refuse_watched(name)
        mending.refuse_removal(self.images, image, with_snapshots=with_snapshots)
        for each in image.snapshots:
            self.images.remove_snapshot(name, each.name)
        self.images.remove(name)
        self.images.empty_trash()

    def rename(self, name: str, new: str) -> None:
        image, snapshot = self._found(name)
        try:
            if snapshot:
                self.images.rename_snapshot(image.name, snapshot.name, marks.parts(new)[1])
            else:
                self._refuse_taken(new)
                self.images.rename(name, new)
                self._refuse_other_name(image, new)
        except Exists:
            raise FileExistsError(errno.EEXIST, "File exists", new) from None

    def _refuse_other_name(self, image: Listed, name: str) -> None:
        """Raises `InUse` where a host beside us has renamed it, too: `rbd` says of both that they
        did, and the last one counts."""
        self.refresh()
        present = self.now(image)
        if present is None or present.name != name:
            raise InUse(
                "somebody on another host renamed it or removed it at the same moment; it is"
                f" {f'called {present.name}' if present else 'gone'}"
            )

    def discard(self, name: str, *, was_image: bool = False) -> None:
        found = [PARTIAL_SUFFIX, *([REWORK_SUFFIX] if was_image else [])]
        for file in (name + suffix for suffix in found):
            if image := self.images.find(file):
                if self.images.served(image):
                    continue  # by a daemon that was killed: for half a minute nobody removes it
                if not image.broken:
                    self._refuse_watched(file)
                self.images.remove(file)

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
        image, snapshot = self._found(name)
        if self.rounded(size) > image.size or snapshot:
            _refuse_fixed(snapshot)
            self.images.resize(name, self.rounded(size))

    def shrink(self, name: str, size: int) -> None:
        image, snapshot = self._found(name)
        if self.rounded(size) < image.size or snapshot:
            _refuse_fixed(snapshot)
            self.images.resize(name, self.rounded(size))

    def note_losses(self, name: str, note: str) -> bool:
        image, snapshot = marks.parts(name)
        return self.note(image, note, snapshot)

    def note(self, name: str, note: str, snapshot: str = "") -> bool:
        """The same, by the name that an image has now."""
        if self.images.metadata(name).get(note_of(snapshot), "") != note:
            self.images.mark(name, note_of(snapshot), note)
        return True

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        image, snapshot = self._found(name)
        if snapshot:
            raise Unsupported(FIXED)
        of, taken = marks.parts(new)
        if of != name or not taken:
            raise Unsupported(f"a snapshot of an RBD image is called {name}@NAME")
        marks.check_name(new)
        if any(each.name == taken for each in image.snapshots):
            raise Exists(f"{new} is there already")
        self.images.take_snapshot(name, taken)
        if note := self.losses(name):
            with undone_by(lambda: self.images.remove_snapshot(name, taken)):
                self.images.mark(name, note_of(taken), note)

    def frozen(self, name: str) -> RbdImage:
        image, snapshot = self._found(name)
        if snapshot:
            return RbdImage(self, image, snapshot)  # which changes no more
        return self.moment(name)

    def moment(self, name: str) -> RbdMoment:
        if self._found(name)[1]:
            raise Unsupported("a snapshot changes no more; leave --keep-snapshot out")
        taken = marks.copying()
        said = msgspec.json.encode(self.cluster).decode()
        watch = Guard(_WATCH, said, name, taken)  # before there is a snapshot
        with ExitStack() as undo:
            undo.callback(watch.dismiss)
            undo.callback(self.drop, name, taken)
            self.images.take_snapshot(name, taken)
            present = self.images.get(name)
            made = next(each for each in present.snapshots if each.name == taken)
            moment = RbdMoment(self, present, made, watch)
            undo.pop_all()
        return moment

    def drop(self, image: str, snapshot: str) -> None:
        """Remove a snapshot that a copy was made from, if it is there."""
        self.refresh()
        found = self.images.find(image)
        if found and any(each.name == snapshot for each in found.snapshots):
            with suppress(NotFound):
                self.images.remove_snapshot(image, snapshot)

    @contextmanager
    def guarded(self, name: str, end: int, contents: str) -> Iterator[str]:
        self._found(name)
        self._refuse_taken(name)
        hidden = name + marks.SHRINKING_SUFFIX
        with undone_by(lambda: mending.undo(self.images, name)):
            self.images.rename(name, hidden)
            self.images.take_snapshot(hidden, marks.UNDO)
            yield hidden
        mending.finish(self.images, name)

    def mend(self, name: str) -> None:
        self.refresh()
        mending.mend(self.images, name)


def _refuse_sparse(sparse: bool) -> None:
    if sparse:
        raise Unsupported("an RBD image has nothing reserved anyway; leave --sparse out")


def _refuse_fixed(snapshot: Snapshot | None) -> None:
    if snapshot:
        raise Unsupported(FIXED)
