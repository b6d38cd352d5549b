"""A pool as its listing shows it: which images there are, who has one open, and what keeps a name
from being used. Nothing is changed here (pool.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, Identity, Store, Stored
from virtstore.backends.rbd import marks, mending
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.images import Images
from virtstore.backends.rbd.report import Listed, Snapshot, Watcher
from virtstore.errors import Denied, Error, InUse, NoSpace, NotFound, Unsupported

FIXED: Final = (
    "it is a snapshot of an RBD image, which stays as it is;"
    " 'virtstore copy' makes an image of it that can be resized"
)
#: QEMU has whole sectors only: it would make an image as much longer.
_SECTOR: Final = 512
_MUCH_ROOM: Final = 1 << 60


class ListedPool(Store):
    """What of a store needs only to look. `fsid`: the cluster's own, or what else tells it
    apart."""

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
                yield from (self._stored_snapshot(image, each) for each in shown(image))

    def announce(self, names: Sequence[str]) -> None:
        self.images.look_ahead({marks.parts(name)[0] for name in names})

    def require_name(self, name: str) -> None:
        if self.images.find(name):  # whatever it was called by others
            marks.refuse_ours(name)
        else:
            marks.check_name(name)

    def require_attributes(self, name: str, like: str | None = None) -> None:
        if "@" in name:
            raise Unsupported(
                "a name with '@' is a snapshot's, and that is read-only; 'virtstore snapshot' takes"
                " one"
            )

    def snapshot_name(self, name: str, asked: str | None) -> str:
        image, _ = marks.parts(name)
        if asked is None:
            taken = {each.name for each in self.images.get(image).snapshots}
            asked = next(free for n in range(1, 1 << 20) if (free := f"s{n}") not in taken)
        return asked if asked.startswith(f"{image}@") else f"{image}@{asked}"

    def losses(self, name: str) -> str:
        image, snapshot = marks.parts(name)
        found = self._owner(image) if snapshot else self.images.find(image)
        if found is None:
            return ""
        with suppress(Denied, NoSpace):  # to look needs to write that somebody looks
            return self.images.metadata(found.name).get(note_of(snapshot), "")
        return ""

    def interrupted(self) -> list[str]:
        return mending.interrupted(self.images)

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
        for snapshot in shown(image):
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
            raise another(others)

    def _stored(self, image: Listed) -> Stored:
        name = marks.image_name(image.name)
        partial, draft = name != image.name, image.name.endswith(PARTIAL_SUFFIX)
        found = () if draft else shown(image)
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
            fixed=FIXED,
        )

    def _path(self, name: str) -> str:
        return f"/dev/rbd/{self.cluster.pool}/{name}"


def shown(image: Listed) -> Iterator[Snapshot]:
    """The snapshots of an image that its users see."""
    for each in image.snapshots:
        if marks.can_be_addressed(each.name) and not marks.is_ours(each.name):
            yield each


def note_of(snapshot: str) -> str:
    return f"{marks.LOST}@{snapshot}" if snapshot else marks.LOST


def another(watchers: tuple[Watcher, ...]) -> Error:
    who = ", ".join(each.detail for each in watchers)
    return InUse(
        f"somebody has it open for writing, on another host maybe ({who}); one that was killed goes"
        " by itself within half a minute"
    )
