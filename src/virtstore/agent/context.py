"""What every operation works with: the policy, the session, and images found through them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Final

from virtstore.agent import locks
from virtstore.agent.config import Config
from virtstore.agent.evidence import Scan, Uses
from virtstore.agent.policy import Place, Policy
from virtstore.agent.session import Session
from virtstore.backends.base import Handle, Image, Store, Stored
from virtstore.errors import (
    FREE_OR_CHOOSE,
    WHO_CLEANS,
    Error,
    InUse,
    NoSpace,
    NotFound,
    Unsafe,
    Unsupported,
)
from virtstore.model import Access, Changed, MovedPartition, ResizedFilesystem
from virtstore.units import format_apart, format_size

#: Seconds that udev may take to look at a volume.
_UDEV: Final = 10.0


class Agent:
    """One session's view of the host. The policy is made when it is first needed, so that a
    wrong configuration is an answer and not a broken connection."""

    def __init__(self, load: Callable[[], Policy], session: Session) -> None:
        self._load = load
        self.session = session
        self._looked_through: set[str] = set()

    @cached_property
    def policy(self) -> Policy:
        return self._load()

    @property
    def log(self) -> str:
        """Where requests are written down; as by default where the configuration is wrong."""
        with suppress(Error):
            return self.policy.config.log
        return Config().log

    @contextmanager
    def locked(
        self, path: str, need: Access, *, shared: bool = False, unzeroed: bool = False
    ) -> Iterator[Place]:
        """An allowed place, with its lock held; what `need` stands for is checked first. Raises
        `Unsafe` where a part of the image may hold old data of others, unless `unzeroed`."""
        self.session.stage("checking")
        with self.policy.image(path, need) as place, self._held(place, shared=shared) as lock:
            if not unzeroed:
                _refuse_unzeroed(place)
            try:
                yield place._replace(lock=lock)
            except NotFound as error:
                _say_what_is_left(place, error)
                raise

    @contextmanager
    def _held(self, place: Place, *, shared: bool) -> Iterator[int]:
        """Hold a place's lock, once what crashes left in its store is mended. Who mends an image
        has its lock alone: so where there is anything to mend, the lock is given up for that."""
        identity = place.store.identity(place.name)
        with locks.hold(identity, shared=shared) as lock:
            place.store.refresh()
            if not self._is_interrupted(place):
                yield lock
                return
        self.mend(place.store, place.path, place.name)
        with locks.hold(identity, shared=shared) as lock:
            place.store.refresh()
            yield lock

    def _is_interrupted(self, place: Place) -> bool:
        """Whether crashes left something to mend. A session looks through a store once, which takes
        a second where there are a million images, and then at the image alone that it is about."""
        parent = place.path.rpartition("/")[0]
        if parent in self._looked_through:
            return place.store.is_interrupted(place.name)
        if place.store.interrupted():
            return True
        self._looked_through.add(parent)
        return False

    def mend(self, store: Store, path: str, wanted: str | None = None) -> None:
        """Finish or undo what crashes left in a store that `path` lies in, but for what somebody is
        working on. What cannot be mended is an error for whoever wants that image, and no other.
        Nothing is changed where nothing may be."""
        if self.policy.may(path, "append"):
            _mend(store, wanted)

    def refuse_use(self, image: Image, *, writers_only: bool = False) -> None:
        """Raises `InUse` if somebody else has the image, or where nobody can tell. Called with the
        lock held."""
        self.uses(image).refuse(writers_only=writers_only)

    def refuse_loss(self, image: Image, *, forced: bool) -> None:
        """The same, before contents or a name are lost. Raises `InUse` also if somebody counts on
        the image who does not use it now, unless `forced`."""
        uses = self.uses(image)
        uses.refuse()
        if not forced:
            uses.refuse_defined()

    def uses(self, image: Image) -> Uses:
        """Who uses an image. Who goes in a moment is waited for, as udev, which looks at every
        volume that was just made or written."""
        deadline = time.monotonic() + _UDEV
        while (uses := Scan().of(image)).passing and time.monotonic() < deadline:
            self.session.stage("waiting")
            time.sleep(0.1)
            self.session.check()
        return uses

    @contextmanager
    def to_change(self, place: Place, name: str) -> Iterator[Image]:
        """An image of the place, opened to be changed, that nobody uses. Called with the lock
        held."""
        try:
            image = place.store.open(name, writable=True)
        except InUse:  # the kernel says so, and not who it is
            with place.store.open(name) as looked_at:
                self.refuse_use(looked_at)
            raise
        with image:
            self.refuse_use(image)
            yield image


def _say_what_is_left(place: Place, error: NotFound) -> None:
    """Add to an error about a missing image that an interrupted operation left a part of it."""
    if error.path not in (None, place.path):
        return
    found = None
    with suppress(Error):  # what keeps us from looking is the error itself
        found = place.store.find(place.name)
    if found:
        error.path = place.path
        if found.state == "partial":
            error.message += (
                "; an interrupted operation left a partial one, which it makes whole if it is"
                " run again"
            )
            if not place.store.capabilities.fixed:
                error.message += f"; {WHO_CLEANS} for good"


def _refuse_unzeroed(place: Place) -> None:
    start = place.store.unzeroed(place.name)
    if start is not None:
        raise Unsafe(
            f"{unzeroed_from(start)}; once nobody uses it, 'virtstore grow' to its present size"
            f" zeroes that, and 'virtstore shrink' to {start} bytes cuts it off",
            path=place.path,
        )


def unzeroed_from(start: int) -> str:
    """The warning for an image of which `backends.base.Store.unzeroed` gave `start`."""
    return (
        "growing it was cut short, or goes on: what lies behind byte"
        f" {start} ({format_size(start)}) may be old data of others"
    )


def _mend(store: Store, wanted: str | None) -> None:
    for name in store.interrupted():
        try:
            with suppress(InUse), locks.hold(store.identity(name)):
                store.mend(name)
        except (Error, OSError) as error:
            if name == wanted:
                raise
            print(f"{name} could not be mended: {error}", file=sys.stderr)


def stored(place: Place) -> Stored:
    """The object that the store has under this name. Raises `NotFound`."""
    found = place.store.find(place.name)
    if found is None:
        raise NotFound("no such image", path=place.path)
    return found


def refuse_fixed(place: Place) -> None:
    """Raises `Unsupported` where an image's size cannot change, and `InUse` where its snapshots
    are in the way."""
    found = stored(place)
    if found.fixed:
        raise Unsupported(found.fixed, path=place.path)
    if found.held_by:
        raise InUse(
            f"it has snapshots ({', '.join(found.held_by)}), with which no volume changes its size;"
            " remove them first. 'virtstore shrinkfs' makes its file system smaller all the same",
            path=place.path,
        )


def require_room(place: Place, more: int) -> None:
    """Raises `NoSpace`, for a dry run, where the real run could not reserve so many more bytes."""
    left = place.store.find(place.name)
    if left and left.state == "partial":
        more -= left.allocated  # it would be taken up
    free = place.store.free()
    if more > free:
        needed, left_over = format_apart(more, free)
        raise NoSpace(
            f"{needed} more are needed and {left_over} are free; {FREE_OR_CHOOSE}",
            path=place.path,
        )


def changed(
    place: Place,
    image: Handle,
    *,
    changed: bool = True,
    partition: int | None = None,
    filesystem: ResizedFilesystem | None = None,
    moved: MovedPartition | None = None,
    warnings: tuple[str, ...] = (),
) -> Changed:
    """The answer that describes an image as it is now."""
    return Changed(
        path=place.path,
        host="",
        changed=changed,
        size=image.size,
        allocated=image.allocated,
        partition=partition,
        filesystem=filesystem,
        moved=moved,
        warnings=warnings,
    )


def planned(
    place: Place,
    size: int | None,
    *steps: str,
    partition: int | None = None,
    filesystem: ResizedFilesystem | None = None,
    warnings: tuple[str, ...] = (),
) -> Changed:
    """The answer to a dry run."""
    return Changed(
        path=place.path,
        host="",
        changed=bool(steps),
        size=size,
        partition=partition,
        filesystem=filesystem,
        dry_run=True,
        plan=steps,
        warnings=warnings,
    )
