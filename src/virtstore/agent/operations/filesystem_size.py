"""File systems change their size, with their partition and their image: growfs, shrinkfs, resize.

Growing goes outside in (image, partition table, file system), shrinking inside out, each
step checked before the next. What is resized is the image's file system, or the one in one
partition. A plan that cannot succeed is refused before its first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from virtstore.agent.context import Agent, refuse_fixed
from virtstore.agent.operations.cut_checks import (
    device_of,
    refuse_to_cut,
    refuse_to_cut_inside,
    refuse_to_cut_the_unknown,
    require_end,
    unknown_inside,
    zero_data,
)
from virtstore.agent.operations.cutting import cut_free_space
from virtstore.agent.operations.resizing_work import (
    Work,
    allocatable,
    answer,
    fill_holes,
    guarded,
    promise,
    unit,
    work_on,
    writing,
)
from virtstore.errors import UsageError
from virtstore.filesystems.base import Resized
from virtstore.filesystems.resize_plan import ResizePlan, growth, shrinking
from virtstore.protocol import Done, GrowFilesystem, ResizeImage, ShrinkFilesystem
from virtstore.undo import undone_by
from virtstore.units import format_apart, parse_size, parse_target_size

#: What `size` says for "as small as it goes".
MINIMUM = "minimum"


def grow_filesystem(agent: Agent, request: GrowFilesystem) -> Done:
    size = None if request.size is None else parse_size(request.size)
    with work_on(agent, request.path, request.partition, shrinks=False) as work:
        work.subject.require_able_inside()
        plan = growth(work.subject, work.present, work.present, size)
        work.require_mounting()
        work.refuse_to_write_upon_the_unknown(work.present)
        if request.dry_run:
            changes = bool(plan.steps(work.place.path))
            return promise(work, plan, _why_no_more(work, request, changed=changes))
        grown = grow_inside(work, plan)
        return answer(work, grown, notes=_why_no_more(work, request, changed=grown.changed))


def _why_no_more(work: Work, request: GrowFilesystem, *, changed: bool) -> tuple[str, ...]:
    """The warning for a growth that found less room than there seems to be."""
    if request.size is not None:
        return ()
    if work.subject.in_the_way:
        return (work.subject.in_the_way + work.subject.way_out,)
    if changed or request.partition is None:
        return ()
    return ("it reaches the end of the disk already; 'virtstore resize' makes both larger",)


def shrink_filesystem(agent: Agent, request: ShrinkFilesystem) -> Done:
    size = None if request.size == MINIMUM else parse_size(request.size)
    with work_on(
        agent, request.path, request.partition, force_defined=request.force_defined
    ) as work:
        work.require_shrinking()
        subject = work.subject
        subject.require_able_inside()
        if size is not None and subject.present is not None and size > subject.present:
            asked, present = format_apart(size, subject.present)
            raise UsageError(
                f"{asked} is more than its {present}; 'virtstore growfs' makes it larger"
            )
        plan = shrinking(subject, work.present, work.present, size)
        work.require_mounting()
        work.refuse_to_write_upon_the_unknown(work.present)
        notes = _left_behind(work)
        if request.dry_run:
            return promise(work, plan, notes)
        fill_holes(work)
        with guarded(work) as name:
            shrunk = _shrink_inside(work, name, plan)
        _zero_what_was_left(work, shrunk.size, work.present)
        return answer(work, shrunk, notes=notes)


def _left_behind(work: Work) -> tuple[str, ...]:
    """The warning about data that is not in its partition any more, once that is smaller."""
    if work.subject.partition is None:
        return ()
    with work.place.store.open(work.place.name) as image:
        found = unknown_inside(image, work.subject.partition, max(work.subject.end, work.remnants))
    return (f"{found}; it stays where it is, and the partition ends before it",) if found else ()


def resize(agent: Agent, request: ResizeImage) -> Done:
    with work_on(
        agent, request.path, request.partition, force_defined=request.force_defined
    ) as work:
        return resize_image(work, target_size(work, request.size), dry_run=request.dry_run)


def target_size(work: Work, asked: str) -> int | None:
    """The bytes that an image is to have; None for as few as possible."""
    size = None
    if asked != MINIMUM:
        size = allocatable(work.place, parse_target_size(asked, work.present))
    if size != work.present:
        refuse_fixed(work.place)
    return size


def resize_image(work: Work, size: int | None, *, dry_run: bool) -> Done:
    """Resize an image, with nothing in it moved."""
    if size is not None and size >= work.present:
        return _grow_image(work, size, dry_run=dry_run)
    if why := work.subject.only_cut(size):
        return cut_free_space(work, size, why, dry_run=dry_run)
    return _shrink_image(work, size, dry_run=dry_run)


def _grow_image(work: Work, size: int, *, dry_run: bool) -> Done:
    present = work.present
    work.agent.policy.check_size(size)
    work.subject.require_able_inside()
    if size > present:
        work.subject.require_way()
    plan = growth(work.subject, present, size, None)
    work.require_mounting()
    work.refuse_to_write_upon_the_unknown(size)
    if dry_run:
        return promise(work, plan)
    with grown_image(work, size):
        grown = grow_inside(work, plan)
    return answer(work, grown, resized_image=size > present)


@contextmanager
def grown_image(work: Work, size: int) -> Iterator[None]:
    """Grow the image to `size` bytes, and give it its old size back if the block fails."""
    if size > work.present:
        work.place.store.grow(work.place.name, size)
    with undone_by(lambda: _cut_back(work) if size > work.present else None):
        yield


def _cut_back(work: Work) -> None:
    """Give the image its old size back. Raises `Unsafe` where something was written behind that."""
    place = work.place
    with place.store.open(place.name) as image:
        refuse_to_cut(image, work.present)
    place.store.shrink(place.name, work.present)


def _shrink_image(work: Work, size: int | None, *, dry_run: bool) -> Done:
    place, subject = work.place, work.subject
    work.require_shrinking()
    room = None if size is None else subject.room(size)
    plan = shrinking(subject, work.present, size, room, unit(place))
    work.require_mounting()
    if size is not None:  # else it goes where there are zeros, as is seen to next
        work.refuse_to_write_upon_the_unknown(size)
    with place.store.open(place.name) as image:
        refuse_to_cut_the_unknown(image, size or 0, work.remnants)
        if subject.partition:
            refuse_to_cut_inside(image, subject.partition, max(plan.kept_end, work.remnants))
    if dry_run:
        return promise(work, plan)
    fill_holes(work)
    with guarded(work) as name:
        shrunk = _shrink_inside(work, name, plan)
        target = plan.shrunk(shrunk.size).disk
        with place.store.open(name) as image:
            require_end(image, target)
    _zero_what_was_left(work, shrunk.size, target)
    if target < work.present:
        place.store.shrink(place.name, target)
    return answer(work, shrunk, resized_image=target < work.present)


def grow_inside(work: Work, plan: ResizePlan) -> Resized:
    """The partition, if it is in one, and then the file system; if that fails, the table is
    as it was."""
    subject, place = work.subject, work.place
    assert plan.after
    work.agent.session.stage("resizing")
    fill_holes(work)
    with writing(work, place.name) as image, device_of(image, lock=place.lock) as disk:
        with subject.grown(disk, plan.after.partition) as (part, moved):
            if subject.filesystem is None:
                return Resized(part.size, changed=moved)
            grown = subject.filesystem.grow(part, plan.size, work.watch)
        image.flush()
    return Resized(grown.size, changed=grown.changed or moved)


def _shrink_inside(work: Work, name: str, plan: ResizePlan) -> Resized:
    """Shrink the file system, and then its partition."""
    subject, place = work.subject, work.place
    work.agent.session.stage("resizing")
    with writing(work, name) as image, device_of(image, lock=place.lock) as disk:
        shrunk = subject.shrink(disk, plan.size, work.watch)
        image.flush()
        after = plan.shrunk(shrunk.size)
        moved = subject.shrink_partition(disk, after.partition, after.disk)
        image.flush()
    return Resized(shrunk.size, changed=shrunk.changed or moved)


def _zero_what_was_left(work: Work, size: int, disk_size: int) -> None:
    """Zero what a file system of `size` bytes has moved away from on a disk of `disk_size`, so
    that the next shrink can show that nothing is cut, and no copy carries it along."""
    start, table = work.subject.start, work.subject.table
    behind = disk_size if table is None else table.backup(disk_size)
    work.agent.session.stage("zeroing")
    with writing(work, work.place.name) as image:  # nobody has begun to use it meanwhile
        zero_data(image, start + size, min(work.subject.end, behind))
        image.flush()
