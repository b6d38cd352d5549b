"""The images of a pool as `rbd` lists them, and the single steps by which they are changed.

Each step is one command. What it changes, the next question asks anew.

`rbd rename` makes an object for the new name, changes the directory, and removes the object of the
old name. Cut short by a crash, it leaves an object for a name that is in no directory. Such an
object keeps everybody from using that name, and `rbd rm` of it would remove the data of another
image. So where a name is said to be taken that no image has, that object is looked at, and removed
if it leads to an image that has another name.

Sources: rbd(8), rados(8); librbd's RenameRequest. Host tools needed: rbd, rados.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from virtstore import run
from virtstore.backends.rbd import marks, removals, report
from virtstore.backends.rbd.ahead import Ahead
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.removals import Removal
from virtstore.backends.rbd.report import Facts, Listed, Overlap, Watcher
from virtstore.errors import Denied, Error, Exists, InUse, NoSpace, NotFound

_JSON: Final = ("--format", "json")
_QUIET: Final = "--no-progress"
#: Questions that are asked at the same time.
_AT_ONCE: Final = 8
#: How many daemons of this process serve an image, by its pool and id. They are counted for all
#: stores together: a copy opens one for its source, and one for its target, which may be the image
#: of that snapshot.
_SERVED: Final[Counter[tuple[Cluster, str]]] = Counter()


class Images:
    """See the module. A listing is kept until something changes, or `refresh`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._known: tuple[Listed, ...] | None = None
        #: How often a listing was forgotten: a thread that lists meanwhile has an old one.
        self._forgotten = 0
        #: The removals that were begun, as of the last listing.
        self.removals: tuple[Removal, ...] = ()
        self._used: dict[tuple[str, str], int] = {}
        self._ahead: dict[str, tuple[Watcher, ...]] = {}
        self._metadata: dict[str, Ahead[dict[str, str]]] = {}

    def refresh(self) -> None:
        self._forgotten += 1
        self._known = None
        self._used = {}
        self._ahead = {}
        self._metadata = {}

    def all(self) -> tuple[Listed, ...]:
        """Every image of the pool, without those that are being removed. Raises `NotFound` for no
        such pool, `Denied`, and `ConnectionFailed`."""
        known, forgotten = self._known, self._forgotten
        if known is None:
            said = self.cluster.answer("ls", "--long", *_JSON)
            # Its status may be that of the image it came to last, which it could not open.
            if said.status and not said.stdout.strip():
                raise self._no_listing(said)
            known = self._without_removed(report.listing(said.stdout, said.stderr))
            if forgotten == self._forgotten:
                self._known = known
        return known

    def _without_removed(self, listed: tuple[Listed, ...]) -> tuple[Listed, ...]:
        """What is listed, without what has lost its name and waits to be removed: that cannot be
        opened, or has the size of another image that has its name now."""
        names = Counter(each.name for each in listed)
        if not any(each.broken or names[each.name] > 1 for each in listed):
            self.removals = ()
            return listed
        whole = {each.id for each in listed if names[each.name] == 1}
        begun = removals.begun(self.cluster)
        self.removals = tuple(each for each in begun if each.id not in whole)
        ids = {each.id for each in self.removals}
        gone = {each.name for each in self.removals}
        return tuple(
            each
            for each in listed
            if each.id not in ids and not (each.broken and each.name in gone)
        )

    def _no_listing(self, said: run.Completed) -> Error:
        refusal = self.cluster.refusal(said)
        if not isinstance(refusal, NotFound):
            return refusal
        within = f", or no namespace {self.cluster.namespace!r} in it"
        return NotFound(
            f"there is no pool {self.cluster.pool!r} in the cluster of {self.cluster.conf}"
            f"{within if self.cluster.namespace else ''}; 'ceph osd lspools' shows them"
        )

    def find(self, name: str) -> Listed | None:
        return next((each for each in self.all() if each.name == name), None)

    def get(self, name: str) -> Listed:
        """The image of that name. Raises `NotFound`."""
        found = self.find(name)
        if found is None:
            raise NotFound("no such image")
        return found

    def of_id(self, id: str) -> Listed | None:
        """The image of that id, whatever its name is by now."""
        return next((each for each in self.all() if each.id == id), None)

    def used(self, image: str, snapshot: str) -> int:
        """The bytes that an image takes with all of its snapshots, or one of these takes."""
        if not any(name == image for name, _ in self._used):
            self._used.update(self._usage_of(self.get(image)))
        if snapshot:
            return self._used.get((image, snapshot), 0)
        return sum(used for (name, _), used in self._used.items() if name == image)

    def watchers(self, image: Listed) -> tuple[Watcher, ...]:
        """Who else has an image open, wherever, or has locked it by hand. Nothing tells which of
        several is a daemon of ours: then all are said. Raises `NotFound`."""
        if image.id in self._ahead:
            return self._ahead.pop(image.id)
        ours = self.served(image)  # one that begins to serve just now may not be there yet
        said = self.cluster.ask("status", "--image", image.name, *_JSON)
        found = report.watchers(said.stdout)
        others = found if len(found) > ours else ()
        return (*others, *self._locks(image))

    def served(self, image: Listed) -> int:
        """How many daemons of this process serve an image, or a snapshot of it."""
        return _SERVED[self.cluster, image.id]

    def count(self, image: Listed, served: int) -> None:
        """So many daemons of this process more serve an image; or less."""
        _SERVED[self.cluster, image.id] += served

    def _locks(self, image: Listed) -> tuple[Watcher, ...]:
        if not image.locked:
            return ()
        return report.locks(self.cluster.ask("lock", "ls", "--image", image.name, *_JSON).stdout)

    def look_ahead(self, names: Iterable[str]) -> None:
        """Ask at once who has some images open, and what all take. `watchers` answers so once."""
        found = [image for name in names if (image := self.find(name)) and image.id]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            if self.removals or any(each.has_nothing or not each.id for each in self.all()):
                for used in pool.map(self._usage_of, found):
                    self._used.update(used)
            elif not self._used:
                self._used.update(report.usage(self.cluster.ask("du", *_JSON).stdout))
            for image, watchers in zip(found, pool.map(self._asked, found), strict=True):
                self._ahead[image.id] = watchers

    def _usage_of(self, image: Listed) -> dict[tuple[str, str], int]:
        """The bytes that an image, and each of its snapshots, has of its own. Of one that `rbd du`
        crashes of: those that were written from one snapshot to the next."""
        words = ("--image", image.name, *_JSON)
        if not image.has_nothing:
            return report.usage(self.cluster.ask("du", *words).stdout)
        found: dict[tuple[str, str], int] = {}
        since: tuple[str, ...] = ()
        for snapshot in (*(each.name for each in image.snapshots), ""):
            until = ("--snap", snapshot) if snapshot else ()
            said = self.cluster.ask("diff", *words, *until, *since)
            found[image.name, snapshot] = report.written(said.stdout)
            since = ("--from-snap", snapshot)
        return found

    def _asked(self, image: Listed) -> tuple[Watcher, ...]:
        with suppress(NotFound):  # it is gone since
            return self.watchers(image)
        return ()

    def clones(self, name: str, snapshot: str) -> tuple[str, ...]:
        """The images, of this pool or another, that lie over a snapshot."""
        words = ("children", "--image", name, "--snap", snapshot, "--all", *_JSON)
        said = self.cluster.ask(*words)
        return report.children(said.stdout)

    def changes(self, name: str, then: str, now: str, end: int) -> tuple[tuple[int, int], ...]:
        """What of the first `end` bytes may have changed between two snapshots: (offset, length),
        in order. Raises `NotFound`."""
        words = ("diff", "--image", name, "--snap", now, "--from-snap", then, *_JSON)
        return report.changes(self.cluster.ask(*words).stdout, end)

    def facts(self, name: str) -> Facts:
        """Raises `NotFound`."""
        return report.facts(self.cluster.ask("info", "--image", name, *_JSON).stdout)

    def require_contents(self, facts: Facts) -> None:
        """Raises `Denied` where the contents are in a pool that the user may not use."""
        if facts.data_pool:
            first = f"{facts.block_name_prefix}.{0:016x}"
            said = self.cluster.objects("stat", first, pool=facts.data_pool)
            if said.status and isinstance(refusal := self.cluster.refusal(said), Denied):
                raise refusal

    def parent(self, name: str, snapshot: str) -> Overlap | None:
        """What a snapshot shows of a parent. Raises `NotFound`."""
        words = ("info", "--image", name, "--snap", snapshot, *_JSON)
        return report.overlap(self.cluster.ask(*words).stdout)

    def ask_metadata(self, name: str) -> None:
        """Ask for an image's metadata, which is going to be wanted."""
        self._metadata[name] = Ahead(lambda: self._metadata_of(name))

    def metadata(self, name: str) -> dict[str, str]:
        asked = self._metadata.pop(name, None)
        return asked.result() if asked else self._metadata_of(name)

    def _metadata_of(self, name: str) -> dict[str, str]:
        said = self.cluster.ask("image-meta", "list", "--image", name, *_JSON)
        return report.metadata(said.stdout)

    def mark(self, name: str, key: str, value: str) -> None:
        """Give an image metadata; "" takes it away."""
        if value:
            self._change("image-meta", "set", "--image", name, key, value)
        else:
            self._change("image-meta", "remove", "--image", name, key)

    def create(self, name: str, size: int, like: Facts | None = None) -> None:
        """A new image of zeros, laid out as another one. Raises `Exists`."""
        words = ("create", "--image", name, "--size", f"{size}B", *_layout(like))
        try:
            self._change(*words)
        except Exists:
            if self.find(name) or not self._freed(name):
                raise
            self._change(*words)

    def rename(self, name: str, new: str) -> None:
        """Give an image another name. Raises `Exists`, and replaces nothing."""
        namespace = self.cluster.namespace
        within = ("--dest-namespace", namespace) if namespace else ()
        target = ("--dest-pool", self.cluster.pool, *within, "--dest", new)
        words = ("rename", "--image", name, *target)
        known = self._known or ()
        try:
            self._change(*words)
        except Exists:
            if self.find(new) or not self._freed(new):
                raise
            self._change(*words)
        renamed = (each._replace(name=new) if each.name == name else each for each in known)
        self._known = tuple(renamed) or None

    def remove(self, name: str) -> None:
        """Remove an image. A crash leaves it as it is, or a removal that was begun. Raises `InUse`
        for one that has watchers, or snapshots, and `NoSpace` where the pool's quota is used up:
        the trash is in the pool, too."""
        try:
            self._change("rm", "--image", name, _QUIET)
        except NoSpace as error:
            raise NoSpace(self.cluster.why_full() or error.message) from None
        except InUse:
            self._refuse_snapshots(name)
            raise
        except NotFound:  # somebody finished it: see `finish`
            if self.find(name):
                raise

    def _refuse_snapshots(self, name: str) -> None:
        """Raises `InUse` for an image that has snapshots."""
        found = self.find(name)
        if found and found.snapshots:
            taken = ", ".join(each.name for each in found.snapshots)
            within = f"{self.cluster.namespace}/" if self.cluster.namespace else ""
            raise InUse(
                f"the RBD image {name} has snapshots ({taken}), which would be lost with it; 'rbd"
                f" snap purge {self.cluster.pool}/{within}{name}' removes them"
            )

    def finish(self, removal: Removal) -> None:
        """Go on with a removal, unless somebody is at it."""
        if removals.is_watched(self.cluster, removal):
            return
        with suppress(InUse, NotFound):
            if removal.has_name and self.find(removal.name) is None:
                self.remove(removal.name)
            elif not removal.has_name:
                self._change("trash", "rm", "--image-id", removal.id, _QUIET)

    def empty_trash(self) -> None:
        """Remove what is in the trash of images that had a temporary name of ours. What somebody
        removes just now has a watcher, and is left."""
        found = report.trash(self.cluster.ask("trash", "ls", "--all", *_JSON).stdout)
        for id, name in found.items():
            if marks.image_name(name) != name:
                with suppress(InUse, NotFound):
                    self._change("trash", "rm", "--image-id", id, _QUIET)

    def resize(self, name: str, size: int) -> None:
        self._change("resize", "--image", name, "--size", f"{size}B", "--allow-shrink", _QUIET)

    def take_snapshot(self, name: str, snapshot: str) -> None:
        """Raises `Exists`."""
        self._change("snap", "create", "--image", name, "--snap", snapshot, _QUIET)

    def rename_snapshot(self, name: str, old: str, new: str) -> None:
        pool = ("--dest-pool", self.cluster.pool)
        self._change(
            "snap",
            "rename",
            "--image",
            name,
            "--snap",
            old,
            *pool,
            "--dest",
            name,
            "--dest-snap",
            new,
        )

    def remove_snapshot(self, name: str, snapshot: str) -> None:
        self._change("snap", "rm", "--image", name, "--snap", snapshot, _QUIET)

    def roll_back(self, name: str, snapshot: str) -> None:
        """Give an image the contents and the size of its snapshot."""
        self._change("snap", "rollback", "--image", name, "--snap", snapshot, _QUIET)

    def _change(self, *words: str) -> None:
        try:
            self.cluster.change(*words)
        finally:
            self.refresh()

    def _freed(self, name: str) -> bool:
        """Whether a name was taken by a renaming that was cut short only, and is free now."""
        taken = f"rbd_id.{name}"
        with tempfile.TemporaryDirectory() as directory:
            file = f"{directory}/id"
            if self.cluster.objects("get", taken, file).status:
                return False
            with open(file, "rb") as stream:
                id = report.id_in(stream.read())
        owner = self.of_id(id)
        if owner is None or owner.name == name or self.find(name):
            return False
        return self.cluster.objects("rm", taken).status == 0


def _layout(like: Facts | None) -> Iterator[str]:
    """The options by which an image lies in the cluster as another one does."""
    if like is None:
        return
    yield from ("--object-size", f"{like.object_size}B")
    if like.data_pool:
        yield from ("--data-pool", like.data_pool)
    if like.stripe_unit:
        yield from ("--stripe-unit", f"{like.stripe_unit}B")
        yield from ("--stripe-count", str(like.stripe_count))
