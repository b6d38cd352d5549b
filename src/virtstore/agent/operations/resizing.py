"""File systems change their size, with their partition and their image: growfs, shrinkfs, resize.

Growing goes outside in (image, partition table, file system), shrinking inside out, each
step checked before the next. What is resized is the image's file system, or the one in one
partition. A plan that cannot succeed is refused before its first step.
"""

from __future__ import annotations

from contextlib import suppress

from virtstore.agent.context import Agent, planned, refuse_fixed
from virtstore.agent.operations.contents import (
    device_of,
    refuse_to_cut,
    refuse_to_cut_the_unknown,
    require_end,
    zero_data,
)
from virtstore.agent.operations.resizing_work import (
    Work,
    allocatable,
    answer,
    fill_holes,
    guarded,
    smallest,
    work_on,
    writing,
)
from virtstore.agent.policy import Place
from virtstore.errors import Error, InUse, UsageError
from virtstore.filesystems.base import Resized
from virtstore.protocol import Done, GrowFilesystem, ResizeImage, ShrinkFilesystem
from virtstore.run import LeftRunning
from virtstore.units import format_size, parse_size, parse_target_size

#: What `size` says for "as small as it goes".
MINIMUM = "minimum"


def grow_filesystem(agent: Agent, request: GrowFilesystem) -> None:
    size = None if request.size is None else parse_size(request.size)
    with work_on(agent, request.path, request.partition, shrinks=False) as work:
        steps = work.subject.growing(work.present, size)
        work.require_mounting()
        work.refuse_to_write_upon_the_unknown(work.present)
        if request.dry_run:
            return agent.reply(Done(planned(work.place, work.present, *steps)))
        answer(work, _grow_inside(work, size))
    return None


def shrink_filesystem(agent: Agent, request: ShrinkFilesystem) -> None:
    size = None if request.size == MINIMUM else parse_size(request.size)
    with work_on(agent, request.path, request.partition) as work:
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
        fill_holes(work)
        with guarded(work) as name:
            shrunk = _shrink_inside(work, name, size, work.present)
        _zero_what_was_left(work, shrunk.size, work.present)
        answer(work, shrunk)
    return None


def resize(agent: Agent, request: ResizeImage) -> None:
    with work_on(agent, request.path) as work:
        if request.size == MINIMUM:
            refuse_fixed(work.place)
            return _shrink_image(work, None, dry_run=request.dry_run)
        size = allocatable(work.place, parse_target_size(request.size, work.present))
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
    return answer(work, grown, resized_image=size > present)


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
    fill_holes(work)
    with guarded(work) as name:
        shrunk = _shrink_inside(work, name, room, size)
        target = size or smallest(work, shrunk.size)
        with place.store.open(name) as image:
            require_end(image, target)
    place.store.refresh()
    _zero_what_was_left(work, shrunk.size, target)
    if target < work.present:
        place.store.shrink(place.name, target)
    return answer(work, shrunk, resized_image=target < work.present)


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
        size = smallest(work, subject.minimum)
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
    work.agent.session.stage("resizing")
    fill_holes(work)
    with writing(work, place.name) as image, device_of(image, lock=place.lock) as disk:
        with subject.grown(disk, size) as (part, moved):
            if subject.filesystem is None:
                return Resized(part.size, changed=moved)
            grown = subject.filesystem.grow(part, size, work.watch)
        image.flush()
    return Resized(grown.size, changed=grown.changed or moved)


def _shrink_inside(work: Work, name: str, size: int | None, disk_size: int | None) -> Resized:
    """The file system, and then its partition; `disk_size`: where the disk is to end."""
    subject, place = work.subject, work.place
    work.agent.session.stage("resizing")
    with writing(work, name) as image, device_of(image, lock=place.lock) as disk:
        shrunk = subject.shrink(disk, size, work.watch)
        image.flush()
        # A partition in which there is free space keeps what it can of it.
        keeps = shrunk.size if size is None else max(size, shrunk.size)
        end = smallest(work, keeps) if disk_size is None else disk_size
        moved = subject.shrink_partition(disk, keeps, end)
        image.flush()
    return Resized(shrunk.size, changed=shrunk.changed or moved)


def _zero_what_was_left(work: Work, size: int, disk_size: int) -> None:
    """Zero what a file system of `size` bytes has moved away from on a disk of `disk_size`, so
    that the next shrink can show that nothing is cut, and no copy carries it along."""
    start, table = work.subject.start, work.subject.table
    behind = disk_size if table is None else table.backup(disk_size)
    work.agent.session.stage("zeroing")
    with writing(work, work.place.name) as image:  # nobody has begun to use it meanwhile
        zero_data(image, start + size, min(work.end, behind))
        image.flush()
