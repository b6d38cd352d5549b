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
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import msgspec

from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    Capabilities,
    Holds,
    Identity,
    Image,
    Look,
    Store,
    Stored,
    nothing,
)
from virtstore.backends.guard import Guard
from virtstore.backends.rbd import marks, mending
from virtstore.backends.rbd.ahead import Ahead
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.drafts import RbdDraft, ReworkedRbd
from virtstore.backends.rbd.image import RbdImage
from virtstore.backends.rbd.images import Images
from virtstore.backends.rbd.moments import RbdMoment
from virtstore.backends.rbd.report import Listed, Snapshot, Watcher
from virtstore.backends.rbd.serving import serve
from virtstore.errors import Denied, Error, Exists, InUse, NoSpace, NotFound, Unsupported
from virtstore.undo import undone_by

_FIXED: Final = (
    "it is a snapshot of an RBD image, which stays as it is;"
    " 'virtstore copy' makes an image of it that can be resized"
)
#: The module that is the process of a guard.
_WATCH: Final = "virtstore.backends.rbd.watch"
#: QEMU has whole sectors only: it would make an image as much longer.
_SECTOR: Final = 512
#: Seconds in which who took up a draft that was just made sees that it is another's.
_YIELDING: Final = 5.0
#: Each has a daemon of its own, of some 40 MB.
_AT_ONCE: Final = 8
_MUCH_ROOM: Final = 1 << 60


class RbdPool(Store):
    """A pool as a store of images. `fsid`: the cluster's own, or what else tells it apart."""

    capabilities = Capabilities(
        always_raw=True,
        noun="an RBD image",
        reserves=False,
        at_once=_AT_ONCE,
        keeps_moments=True,
        unnote=f"rbd image-meta remove {{path}} {marks.LOST}",
    )

    def __init__(self, cluster: Cluster, fsid: str = "") -> None:
        """Asks nothing of the cluster: where there is none, the first use says so."""
        self.cluster = cluster
        self.images = Images(cluster)
        self._key = f"rbd:{fsid or cluster.conf}/{cluster.pool}/{cluster.namespace}"
        self._opened: Counter[str] = Counter()

    def close(self) -> None:
        """Nothing is held open."""

    def refresh(self) -> None:
        self.images.refresh()

    def identity(self, name: str) -> str:
        return f"{self._key}/{name}"

    def identity_of(self, image: Listed, snapshot: Snapshot | None) -> Identity:
        return self._key, image.id, snapshot.id if snapshot else -1

    def free(self) -> int:
        """As much as anybody wants: nothing is reserved, and only who may ask the monitors knows
        when it ends (`describe`)."""
        self.images.all()
        return _MUCH_ROOM

    def rounded(self, size: int) -> int:
        return size + -size % _SECTOR

    def scan(self) -> Iterator[Stored]:
        for image in self.images.all():
            if not marks.can_be_addressed(image.name) or image.name.endswith(marks.REPLACED_SUFFIX):
                continue
            yield self._stored(image)
            if not image.name.endswith(PARTIAL_SUFFIX):
                yield from (self._stored_snapshot(image, each) for each in _shown(image))

    def announce(self, names: Sequence[str]) -> None:
        self.images.look_ahead({marks.parts(name)[0] for name in names})

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> RbdImage:
        image, snapshot = self._found(name, partial=partial)
        if snapshot and writable:
            raise Unsupported(_FIXED)
        return RbdImage(self, image, snapshot, writable=writable)

    def require_name(self, name: str) -> None:
        marks.check_name(name)

    def require_attributes(self, name: str, like: str | None = None) -> None:
        if "@" in name:
            raise Unsupported(
                "a name with '@' is a snapshot's, and that is read-only; 'virtstore snapshot' takes"
                " one"
            )

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
            return self._drafted(name, "kept")
        self.discard(name)
        try:
            self.images.create(file, size, like)
        except Exists:
            raise InUse("somebody on another host makes an image of that name just now") from None
        with undone_by(lambda: self.discard(name)):
            return self._drafted(name, "zeros")

    def _drafted(self, name: str, holds: Holds) -> RbdDraft:
        """The draft that is there, opened. Raises `InUse` where another host has opened it, too."""
        file = name + PARTIAL_SUFFIX
        listed = Ahead(lambda: self.images.get(file))
        served = serve(self.cluster, file, writable=True)
        with undone_by(served.close):
            image = listed.result()
        draft = RbdDraft(self, image, name, holds, served)
        with undone_by(draft.close):
            deadline = time.monotonic() + (_YIELDING if holds == "zeros" else 0)
            while others := self.watchers(image):
                if time.monotonic() > deadline:
                    raise _another(others)
                time.sleep(0.2)
        return draft

    def rework(
        self, name: str, before: Callable[[Image], None] = lambda image: None
    ) -> ReworkedRbd:
        image, snapshot = self.images.find(name), marks.parts(name)[1]
        if snapshot:
            self._found(name)
            raise Unsupported(_FIXED)
        if image is None:
            return self._reworked_before(name)
        marks.check_name(name)
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

    def losses(self, name: str) -> str:
        image, snapshot = marks.parts(name)
        found = self._owner(image) if snapshot else self.images.find(image)
        if found is None:
            return ""
        with suppress(Denied, NoSpace):  # to look needs to write that somebody looks
            return self.images.metadata(found.name).get(_note_of(snapshot), "")
        return ""

    def note_losses(self, name: str, note: str) -> bool:
        image, snapshot = marks.parts(name)
        return self.note(image, note, snapshot)

    def note(self, name: str, note: str, snapshot: str = "") -> bool:
        """The same, by the name that an image has now."""
        if self.images.metadata(name).get(_note_of(snapshot), "") != note:
            self.images.mark(name, _note_of(snapshot), note)
        return True

    def snapshot_name(self, name: str, asked: str | None) -> str:
        image, _ = marks.parts(name)
        if asked is None:
            taken = {each.name for each in self.images.get(image).snapshots}
            asked = next(free for n in range(1, 1 << 20) if (free := f"s{n}") not in taken)
        return asked if asked.startswith(f"{image}@") else f"{image}@{asked}"

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        image, snapshot = self._found(name)
        if snapshot:
            raise Unsupported(_FIXED)
        of, taken = marks.parts(new)
        if of != name or not taken:
            raise Unsupported(f"a snapshot of an RBD image is called {name}@NAME")
        marks.check_name(new)
        if any(each.name == taken for each in image.snapshots):
            raise Exists(f"{new} is there already")
        self.images.take_snapshot(name, taken)
        if note := self.losses(name):
            with undone_by(lambda: self.images.remove_snapshot(name, taken)):
                self.images.mark(name, _note_of(taken), note)

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

    def interrupted(self) -> list[str]:
        return mending.interrupted(self.images)

    def mend(self, name: str) -> None:
        self.refresh()
        mending.mend(self.images, name)

    def used(self, image: str, snapshot: str) -> int:
        """The bytes that an image, or a snapshot, takes."""
        return self.images.used(image, snapshot)

    def now(self, image: Listed) -> Listed | None:
        """An image as it is listed now, whatever its name is."""
        return self.images.of_id(image.id)

    def count(self, image: Listed, *, opened: int = 0, served: int = 0) -> None:
        """So many more, or less, have an image open here; so many daemons of ours serve it."""
        self._opened[image.id] += opened
        self.images.count(image, served)

    def watchers(self, image: Listed) -> tuple[Watcher, ...]:
        """Who else has an image open."""
        present = self.now(image)
        return self.images.watchers(present) if present else ()

    def _found(self, name: str, *, partial: bool = False) -> tuple[Listed, Snapshot | None]:
        """What is called so. Raises `NotFound`."""
        if partial:
            if left := self._left(name):
                return left, None
            raise NotFound("no such image")
        of, taken = marks.parts(name)
        image = self._owner(of) if taken else self.images.find(of)
        if image is None:
            raise NotFound("no such image")
        if image.refused:
            raise self.cluster.explained(image.refused, 0, image.refused)
        if "@" not in name:
            return image, None
        for snapshot in _shown(image):
            if snapshot.name == taken:
                return image, snapshot
        raise NotFound("no such snapshot")

    def _owner(self, name: str) -> Listed | None:
        """The image whose snapshots are called `NAME@…`. They stay what they are, also where a
        change of their image was cut short."""
        return self.images.find(name) or self.images.find(name + REWORK_SUFFIX)

    def _left(self, name: str) -> Listed | None:
        """What is left of a partial image. What is left of an image goes before a draft."""
        return self.images.find(name + REWORK_SUFFIX) or self.images.find(name + PARTIAL_SUFFIX)

    def _refuse_taken(self, name: str) -> None:
        """Raises `InUse` while an image of that name is on its way in or out."""
        for suffix in (marks.SHRINKING_SUFFIX, marks.REPLACED_SUFFIX):
            found = self.images.find(name + suffix)
            if found and not self._opened[found.id]:
                raise InUse(
                    f"an image of that name is being changed, or a crash cut that short"
                    f" ({name}{suffix}); try again in a while"
                )

    def _refuse_watched(self, name: str) -> None:
        if others := self.watchers(self.images.get(name)):
            raise _another(others)

    def _stored(self, image: Listed) -> Stored:
        name = marks.image_name(image.name)
        partial, draft = name != image.name, image.name.endswith(PARTIAL_SUFFIX)
        found = () if draft else _shown(image)
        snapshots = tuple(f"{self._path(name)}@{each.name}" for each in found)
        return Stored(
            name=name,
            type="rbd",
            state="partial" if partial else "complete",
            was_image="yes" if partial and not draft else "no",
            size=image.size,
            allocated=self.used(image.name, "") if partial and image.id else 0,
            identity=self.identity_of(image, None),
            snapshots=snapshots,
            dependents=snapshots,
            active=not image.broken,
        )

    def _stored_snapshot(self, image: Listed, snapshot: Snapshot) -> Stored:
        name = marks.image_name(image.name)
        return Stored(
            name=f"{name}@{snapshot.name}",
            type="rbd-snapshot",
            size=snapshot.size,
            identity=self.identity_of(image, snapshot),
            snapshot_of=self._path(name),
            fixed=_FIXED,
        )

    def _path(self, name: str) -> str:
        return f"/dev/rbd/{self.cluster.pool}/{name}"


def _shown(image: Listed) -> Iterator[Snapshot]:
    """The snapshots of an image that its users see."""
    for each in image.snapshots:
        if marks.can_be_addressed(each.name) and not marks.is_ours(each.name):
            yield each


def _note_of(snapshot: str) -> str:
    return f"{marks.LOST}@{snapshot}" if snapshot else marks.LOST


def _another(watchers: tuple[Watcher, ...]) -> Error:
    who = ", ".join(each.detail for each in watchers)
    return InUse(
        f"somebody has it open for writing, on another host maybe ({who}); one that was killed goes"
        " by itself within half a minute"
    )


def _refuse_sparse(sparse: bool) -> None:
    if sparse:
        raise Unsupported("an RBD image has nothing reserved anyway; leave --sparse out")


def _refuse_fixed(snapshot: Snapshot | None) -> None:
    if snapshot:
        raise Unsupported(_FIXED)
