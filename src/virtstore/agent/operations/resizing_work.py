"""One request to resize something, looked into: what it is about, and what its steps share.

The image is locked for as long as the request takes, and closed between its steps, so that
whoever undoes a change has it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from virtstore.agent.container import require_images, require_raw, rounded
from virtstore.agent.context import Agent, changed, planned, require_room
from virtstore.agent.operations import lost
from virtstore.agent.operations.cut_checks import device_of, refuse_to_write_upon_the_unknown
from virtstore.agent.operations.refusals import refuse_overlays
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.errors import Corrupt, Interrupted
from virtstore.filesystems.base import Resized
from virtstore.filesystems.choosing import choose
from virtstore.filesystems.detect import Contents, detect
from virtstore.filesystems.resize_plan import ResizePlan
from virtstore.filesystems.signs import signs_of_a_cut
from virtstore.filesystems.subject import Subject
from virtstore.model import MovedPartition, ResizedFilesystem
from virtstore.protocol import Done
from virtstore.undo import undone_by


class Work(NamedTuple):
    """One request to resize, looked into: nobody uses the image, which has `present` bytes.
    `notes`: what the user has to know, whatever comes of it. `force_defined`: as requests have
    it."""

    agent: Agent
    place: Place
    present: int
    subject: Subject
    notes: tuple[str, ...] = ()
    force_defined: bool = False

    @property
    def contents(self) -> str:
        """What a guarded change of it is known by: not by its end, which that changes."""
        subject = self.subject
        return f"{subject.kind} {subject.uuid} at {subject.start} of {self.present}"

    @property
    def remnants(self) -> int:
        """The byte before which there may be what an interrupted shrink left behind."""
        return self.place.store.remnants(self.place.name, self.contents)

    def refuse_to_write_upon_the_unknown(self, size: int) -> None:
        """Raises `Unsafe` where its partition table cannot be one for `size` bytes because of
        data that lies at their end."""
        table, remnants = self.subject.table, self.remnants
        with self.place.store.open(self.place.name) as image:
            refuse_to_write_upon_the_unknown(image, table, size, remnants)

    def require_shrinking(self) -> None:
        """Raises `InUse` where a domain that is shut off counts on the image as it is."""
        with self.place.store.open(self.place.name) as image:
            self.agent.refuse_loss(image, forced=self.force_defined)

    def require_mounting(self) -> None:
        """Raises `Denied` where that would be needed and is not allowed."""
        filesystem = self.subject.filesystem
        if filesystem and filesystem.capabilities.mounted:
            self.agent.policy.require_mounting(self.subject.kind)

    def watch(self, done: int, total: int) -> None:
        """Progress, in bytes of the image. A tool that changes an image is not given up when
        the client goes."""
        with suppress(Interrupted):
            self.agent.session.progress(self.present * done // max(total, 1), self.present)


@contextmanager
def work_on(
    agent: Agent,
    path: str,
    partition: int | None = None,
    *,
    shrinks: bool = True,
    force_defined: bool = False,
) -> Iterator[Work]:
    """Look into an image, which is locked, and close it again: whoever undoes a change must have it
    alone."""
    with agent.locked(path, "write") as place:
        refuse_overlays(place)
        require_images(place)
        with agent.to_change(place, place.name) as image:
            require_raw(place, image)
            present = image.size
            with device_of(image) as disk:
                found = detect(disk)
                subject = choose(found, partition)
                subject.require_whole(present)
                notes = _losses(place, found, subject, present)
                if shrinks:
                    subject = subject.measured(disk)
                notes += tuple(signs_of_a_cut(disk, found))
        yield Work(agent, place, present, subject, notes, force_defined)


def _losses(place: Place, found: Contents, subject: Subject, size: int) -> tuple[str, ...]:
    """Warnings about what other things in the image than the subject had lost before it grew.
    Raises `Corrupt` where the subject itself had: what a tool makes of the zeros there could not be
    told from data afterwards."""
    losses = tuple(lost.told(place.store, place.path, place.name, found, size))
    for loss in losses:
        if loss.number == subject.number:
            raise Corrupt(loss.message)
    return tuple(loss.message for loss in losses)


@contextmanager
def writing(work: Work, name: str) -> Iterator[Image]:
    """The image, opened for one step. Who uses it is looked at again, since a check may have taken
    hours."""
    with work.agent.to_change(work.place, name) as image:
        yield image


def unit(place: Place) -> int:
    """What the size of an image there is a multiple of: an extent, where it is a volume."""
    return rounded(place, 1)


def allocatable(place: Place, size: int) -> int:
    """Whole extents, where it is a volume."""
    return rounded(place, size)


@contextmanager
def guarded(work: Work) -> Iterator[str]:
    """The store's guard. If the block fails and everything is in its place, the change counts as
    not begun: the next one has no right to what lies behind."""
    place = work.place

    def forget() -> None:
        if work.remnants == work.subject.end and _is_as_it_was(work):
            place.store.forget_remnants(place.name)

    with (
        undone_by(forget),
        place.store.guarded(place.name, work.subject.end, work.contents) as name,
    ):
        yield name


def _is_as_it_was(work: Work) -> bool:
    """Whether file system and partition are where they were, as far as can be seen."""
    before = work.subject
    with work.place.store.open(work.place.name) as image, device_of(image) as disk:
        now = choose(detect(disk), before.number)
    return (now.present, now.partition) == (before.present, before.partition)


def fill_holes(work: Work) -> None:
    """Reserve all space that a tool may write to, so that a full disk stops the tool before it
    begins: ntfsresize does not survive that half-way."""
    work.place.store.reserve(work.place.name)


def promise(
    work: Work, plan: ResizePlan, notes: tuple[str, ...] = (), *, fills: bool = True
) -> Done:
    """The answer to a dry run. `fills`: the real run begins with `fill_holes`. Raises `NoSpace`."""
    steps = plan.steps(work.place.path)
    if steps and fills:
        require_room(work.place, _holes(work))
    told = planned(
        work.place,
        plan.after.disk if plan.after else plan.disk,
        *steps,
        partition=work.subject.number,
        filesystem=_named(work, plan.after.filesystem if plan.after else None),
        warnings=(*work.notes, *notes),
    )
    return Done(told)


def _holes(work: Work) -> int:
    """The bytes that `fill_holes` takes."""
    store = work.place.store
    with store.open(work.place.name) as image:
        reserves = store.capabilities.sparse and image.container is None
        return image.size - image.allocated if reserves else 0


def answer(
    work: Work,
    resized: Resized | None,
    *,
    resized_image: bool = False,
    moved: MovedPartition | None = None,
    notes: tuple[str, ...] = (),
) -> Done:
    """The answer to the request. `resized`: None where nothing was changed within the partition."""
    subject, size = work.subject, resized.size if resized else work.subject.present
    work.place.store.forget_remnants(work.place.name)
    with work.place.store.open(work.place.name) as image:
        told = changed(
            work.place,
            image,
            changed=resized_image or moved is not None or (resized is not None and resized.changed),
            moved=moved,
            partition=subject.number,
            filesystem=_named(work, size),
            warnings=(*work.notes, *(subject.remarks if resized else ()), *notes),
        )
    return Done(told)


def _named(work: Work, size: int | None) -> ResizedFilesystem | None:
    """The file system that a request was about, of `size` bytes, as answers name it; None where
    there is none, or its size is not known."""
    subject = work.subject
    known = subject.filesystem or subject.present
    return ResizedFilesystem(subject.kind, size) if known and size else None
