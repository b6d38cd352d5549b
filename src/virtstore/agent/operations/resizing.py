"""File systems change their size, with their partition and their image: growfs, shrinkfs, resize.

Growing goes outside in (image, partition table, file system), shrinking inside out, each
step checked before the next. What is resized is the image's file system, or the one in one
partition. A plan that cannot succeed is refused before its first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from virtstore.agent.context import Agent, changed, planned, refuse_archive, refuse_fixed
from virtstore.agent.operations.contents import (
    device_of,
    refuse_to_cut,
    refuse_to_cut_the_unknown,
    refuse_to_write_upon_the_unknown,
    require_end,
    zero_data,
)
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.errors import Error, Interrupted, InUse, UsageError
from virtstore.filesystems.base import Resized
from virtstore.filesystems.detect import detect
from virtstore.filesystems.subject import Subject, choose
from virtstore.protocol import Done, GrowFilesystem, ResizeImage, ShrinkFilesystem
from virtstore.run import LeftRunning
from virtstore.units import format_size, parse_size, parse_target_size

#: What `size` says for "as small as it goes".
MINIMUM = "minimum"


class Work(NamedTuple):
    """One request, looked into: the image has `present` bytes, and nobody uses it."""

    agent: Agent
    place: Place
    present: int
    subject: Subject

    @property
    def end(self) -> int:
        """The byte where what shrinks ends now."""
        return self.subject.start + (self.subject.present or 0)

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


def grow_filesystem(agent: Agent, request: GrowFilesystem) -> None:
    size = None if request.size is None else parse_size(request.size)
    with _work(agent, request.path, request.partition, shrinks=False) as work:
        steps = work.subject.growing(work.present, size)
        work.require_mounting()
        work.refuse_to_write_upon_the_unknown(work.present)
        if request.dry_run:
            return agent.reply(Done(planned(work.place, work.present, *steps)))
        _answer(work, _grow_inside(work, size))
    return None


def shrink_filesystem(agent: Agent, request: ShrinkFilesystem) -> None:
    size = None if request.size == MINIMUM else parse_size(request.size)
    with _work(agent, request.path, request.partition) as work:
        subject, place = work.subject, work.place
        if size is not None and subject.present is not None and size > subject.present:
            raise UsageError(
                f"{format_size(size)} is more than its {format_size(subject.present)};"
                " 'virtstore growfs' makes it larger"
            )
        subject.require_fit(size, work.present)
        work.require_mounting()
        work.refuse_to_write_upon_the_unknown(work.present)
        if request.dry_run:
            return agent.reply(Done(planned(place, work.present, *subject.shrinking(size))))
        _fill_holes(work)
        with _guarded(work) as name:
            shrunk = _shrink_inside(work, name, size, work.present)
        _zero_what_was_left(work, shrunk.size, work.present)
        _answer(work, shrunk)
    return None


def resize(agent: Agent, request: ResizeImage) -> None:
    with _work(agent, request.path) as work:
        if request.size == MINIMUM:
            refuse_fixed(work.place)
            return _shrink_image(work, None, dry_run=request.dry_run)
        size = _allocatable(work.place, parse_target_size(request.size, work.present))
        if size != work.present:
            refuse_fixed(work.place)
        if size < work.present:
            return _shrink_image(work, size, dry_run=request.dry_run)
        return _grow_image(work, size, dry_run=request.dry_run)


def _grow_image(work: Work, size: int, *, dry_run: bool) -> None:
    agent, place, present = work.agent, work.place, work.present
    agent.policy.check_size(size)
    steps = work.subject.growing(size, None)
    work.require_mounting()
    work.refuse_to_write_upon_the_unknown(size)
    if size > present:
        steps.insert(0, f"grow {place.path} from {format_size(present)} to {format_size(size)}")
    if dry_run:
        return agent.reply(Done(planned(place, size, *steps)))
    if size > present:
        place.store.grow(place.name, size)
    try:
        grown = _grow_inside(work, None)
    except LeftRunning:
        raise
    except BaseException:
        if size > present:
            _cut_back(work)
        raise
    return _answer(work, grown, resized_image=size > present)


def _cut_back(work: Work) -> None:
    """The image has its old size again, unless something was written behind that. What the
    user is told is why growing failed: so nothing that goes wrong here is raised."""
    place = work.place
    with suppress(Error, OSError):
        with place.store.open(place.name) as image:
            refuse_to_cut(image, work.present)
        place.store.refresh()
        place.store.shrink(place.name, work.present)


def _shrink_image(work: Work, size: int | None, *, dry_run: bool) -> None:
    place, subject = work.place, work.subject
    _refuse_dependents(place)
    room = None if size is None else subject.room(size)
    subject.require_fit(room, size or work.present)
    work.require_mounting()
    if size is not None:  # else it goes where there are zeros, as is seen to next
        work.refuse_to_write_upon_the_unknown(size)
    with place.store.open(place.name) as image:
        refuse_to_cut_the_unknown(image, size or 0, work.remnants)
    if dry_run:
        return _plan_to_shrink(work, size, room)
    _fill_holes(work)
    with _guarded(work) as name:
        shrunk = _shrink_inside(work, name, room, size)
        target = size or _smallest(work, shrunk.size)
        with place.store.open(name) as image:
            require_end(image, target)
    place.store.refresh()
    _zero_what_was_left(work, shrunk.size, target)
    if target < work.present:
        place.store.shrink(place.name, target)
    return _answer(work, shrunk, resized_image=target < work.present)


def _refuse_dependents(place: Place) -> None:
    """LVM cuts no volume that has thick snapshots: said before its file system is shrunk."""
    found = place.store.find(place.name)
    if found and found.dependents:
        raise InUse(
            f"it has snapshots ({', '.join(found.dependents)}), with which a volume cannot be cut;"
            " remove them first, or shrink its file system only ('virtstore shrinkfs')"
        )


def _plan_to_shrink(work: Work, size: int | None, room: int | None) -> None:
    subject, place = work.subject, work.place
    steps = subject.shrinking(room)
    if size is None and subject.minimum is not None:
        size = _smallest(work, subject.minimum)
    if size is None:
        steps.append(f"cut {place.path} behind it")
    elif size < work.present:
        steps.append(
            f"cut {place.path} from {format_size(work.present)} to {size} bytes"
            f" ({format_size(size)})"
        )
    work.agent.reply(Done(planned(place, size, *steps)))


def _grow_inside(work: Work, size: int | None) -> Resized:
    """The partition, if it is in one, and then the file system; if that fails, the table is
    as it was."""
    subject, place = work.subject, work.place
    _fill_holes(work)
    with _writing(work, place.name) as image, device_of(image, lock=place.lock) as disk:
        with subject.grown(disk, size) as (part, moved):
            if subject.filesystem is None:
                return Resized(part.size, changed=moved)
            grown = subject.filesystem.grow(part, size, work.watch)
        image.flush()
    return Resized(grown.size, changed=grown.changed or moved)


def _shrink_inside(work: Work, name: str, size: int | None, disk_size: int | None) -> Resized:
    """The file system, and then its partition; `disk_size`: where the disk is to end."""
    subject, place = work.subject, work.place
    with _writing(work, name) as image, device_of(image, lock=place.lock) as disk:
        shrunk = subject.shrink(disk, size, work.watch)
        image.flush()
        # A partition in which there is free space keeps what it can of it.
        keeps = shrunk.size if size is None else max(size, shrunk.size)
        end = _smallest(work, keeps) if disk_size is None else disk_size
        moved = subject.shrink_partition(disk, keeps, end)
        image.flush()
    return Resized(shrunk.size, changed=shrunk.changed or moved)


@contextmanager
def _guarded(work: Work) -> Iterator[str]:
    """The store's guard. If the block fails with everything in its place, it is as if nothing
    had been begun: the next change has no right to what lies behind."""
    place = work.place
    try:
        with place.store.guarded(place.name, work.end, work.contents) as name:
            yield name
    except LeftRunning:
        raise
    except BaseException:
        with suppress(Error, OSError):
            if work.remnants == work.end and _is_as_it_was(work):
                place.store.forget_remnants(place.name)
        raise


def _is_as_it_was(work: Work) -> bool:
    """Whether file system and partition are seen to be where they were."""
    before = work.subject
    with work.place.store.open(work.place.name) as image, device_of(image) as disk:
        number = before.partition.number if before.partition else None
        now = choose(detect(disk), number)
    return (now.present, now.partition) == (before.present, before.partition)


def _zero_what_was_left(work: Work, size: int, disk_size: int) -> None:
    """Zero what a file system of `size` bytes has moved away from on a disk of `disk_size`, so
    that the next shrink can show that nothing is cut, and no copy carries it along."""
    start, table = work.subject.start, work.subject.table
    behind = disk_size if table is None else table.backup(disk_size)
    with _writing(work, work.place.name) as image:  # nobody has begun to use it meanwhile
        zero_data(image, start + size, min(work.end, behind))
        image.flush()


def _fill_holes(work: Work) -> None:
    """Have the space for all that a tool may write, so that a full disk stops it before it
    begins: ntfsresize does not survive that half-way."""
    with work.place.store.open(work.place.name) as image:
        size = image.size
    work.place.store.grow(work.place.name, size)


def _answer(work: Work, resized: Resized, *, resized_image: bool = False) -> None:
    work.place.store.forget_remnants(work.place.name)
    with work.place.store.open(work.place.name) as image:
        told = changed(
            work.place,
            image,
            changed=resized_image or resized.changed,
            filesystem=resized.size if work.subject.filesystem else None,
            warnings=work.subject.remarks,
        )
    work.agent.reply(Done(told))


@contextmanager
def _work(
    agent: Agent, path: str, partition: int | None = None, *, shrinks: bool = True
) -> Iterator[Work]:
    """The image is locked, and closed again: whoever undoes a change must have it alone."""
    with agent.locked(path, "write") as place:
        with place.store.open(place.name, writable=True) as image:
            refuse_archive(place, image)
            agent.refuse_use(image)
            present = image.size
            with device_of(image) as disk:
                subject = choose(detect(disk), partition)
                subject.require_whole(present)
                if shrinks:
                    subject = subject.measured(disk)
        yield Work(agent, place, present, subject)


@contextmanager
def _writing(work: Work, name: str) -> Iterator[Image]:
    """The image, opened for one step; a check may have taken hours since the last."""
    with work.place.store.open(name, writable=True) as image:
        work.agent.refuse_use(image)
        yield image


def _smallest(work: Work, size: int) -> int:
    """Bytes of the smallest image, of those that its store can have, for a file system of
    `size`; never more than it has."""
    smallest = _allocatable(work.place, work.subject.smallest_image(size))
    return min(smallest, work.present)


def _allocatable(place: Place, size: int) -> int:
    """Whole extents, where it is a volume."""
    unit = place.store.capabilities.granularity
    return -(-size // unit) * unit
