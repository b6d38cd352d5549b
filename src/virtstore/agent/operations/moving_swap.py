"""resize --move-swap: the swap partition between the one that is resized and the disk's end goes to
the new end.

Growing, it is moved before what lies before it grows into its place; shrinking, after that has
shrunk. Each step leaves a disk to boot from, and the same command goes on from there: the header
is copied, the table switches to the copy, and the old header is zeroed (`trailing_swap.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from virtstore.agent.context import Agent
from virtstore.agent.operations import filesystem_size
from virtstore.agent.operations.cut_checks import (
    device_of,
    first_data,
    refuse_to_cut_inside,
    require_end,
    zero_data,
)
from virtstore.agent.operations.filesystem_size import (
    grow_inside,
    grown_image,
    resize_image,
    target_size,
)
from virtstore.agent.operations.resizing_work import (
    Work,
    allocatable,
    answer,
    fill_holes,
    guarded,
    promise,
    work_on,
    writing,
)
from virtstore.backends.base import Image
from virtstore.errors import Error, Unsafe, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.choosing import choose
from virtstore.filesystems.claims import claimed_end, refuse_to_write_into
from virtstore.filesystems.detect import detect
from virtstore.filesystems.partitions.change import apply, read_table
from virtstore.filesystems.partitions.relocation import require_free
from virtstore.filesystems.partitions.roles import OF_THE_GUEST, described
from virtstore.filesystems.partitions.table import Regions, Table, Write, end_of
from virtstore.filesystems.partitions.trailing_swap import TrailingSwap, trailing_swap
from virtstore.filesystems.resize_plan import ResizePlan, cut, growth, shrinking
from virtstore.filesystems.subject import Subject
from virtstore.model import MovedPartition
from virtstore.protocol import Done, ResizeImage
from virtstore.units import format_size

_NOTHING: Final = "no swap partition lies between it and the end of the disk: none was moved"


def resize(agent: Agent, request: ResizeImage) -> Done:
    if not request.move_swap:
        return filesystem_size.resize(agent, request)
    with work_on(
        agent, request.path, request.partition, force_defined=request.force_defined
    ) as work:
        size = target_size(work, request.size)
        if (swap := _in_the_way(work)) is None:
            work = work._replace(notes=(*work.notes, _NOTHING))
            return resize_image(work, size, dry_run=request.dry_run)
        if size is not None and size >= work.present:
            return _grow(work, swap, size, dry_run=request.dry_run)
        return _shrink(work, swap, size, dry_run=request.dry_run)


def _in_the_way(work: Work) -> TrailingSwap | None:
    with work.place.store.open(work.place.name) as image, device_of(image) as disk:
        return trailing_swap(disk, work.subject)


def _grow(work: Work, swap: TrailingSwap, size: int, *, dry_run: bool) -> Done:
    place, present = work.place, work.present
    work.agent.policy.check_size(size)
    work.subject.require_able_inside()
    start = swap.further(size)
    if size > present and start == swap.partition.start:
        least = allocatable(place, swap.smallest_growth())
        raise UsageError(
            f"{described(swap.partition)} cannot be moved by so little; the smallest size that"
            f" makes room before it is {least} bytes ({format_size(least)})"
        )
    subject = swap.out_of_the_way(work.subject, start)
    plan = replace(growth(subject, present, size, None), move=_move_step(swap, start))
    work.require_mounting()
    work.refuse_to_write_upon_the_unknown(size)
    strays = _strays(work, swap)
    if dry_run:
        return promise(work, plan)
    with grown_image(work, size):
        fill_holes(work)
        moved = _move(work, place.name, start, strays)
        grown = grow_inside(work._replace(subject=_seen(work, place.name)), plan)
    return answer(work, grown, resized_image=size > present, moved=moved)


def _shrink(work: Work, swap: TrailingSwap, size: int | None, *, dry_run: bool) -> Done:
    place, present, front = work.place, work.present, swap.front
    work.require_shrinking()
    start = swap.partition.start if size is None else swap.nearer(size)
    if start - swap.lead <= front.start:
        raise Unsafe(
            f"with {described(swap.partition)} at its end, no part of partition {front.number}"
            f" would be left on a disk of {size} bytes"
        )
    subject = swap.out_of_the_way(work.subject, start)
    room = None if size is None else subject.room(size)
    why = subject.only_cut(None)
    if why is None:
        plan = shrinking(subject, present, size or present, room)
    else:
        _require_fit_as_it_is(work, swap, room, why)
        subject.require_undisputed(size or present)
        plan = cut(subject, present, size or present)
    plan = _with_swap(work, swap, plan, size)
    work.require_mounting()
    for each in {size or present, present}:
        work.refuse_to_write_upon_the_unknown(each)
    if why is None:
        with place.store.open(place.name) as image:
            refuse_to_cut_inside(image, front, max(plan.kept_end, work.remnants))
    strays = _strays(work, swap)
    notes = () if why is None else (f"partition {front.number} was not shrunk: {why.message}",)
    if dry_run:
        return promise(work, plan, notes)
    fill_holes(work)
    with guarded(work) as name:
        shrunk = None if why else _shrink_front(work, swap, name, plan)
        if shrunk:
            plan = _with_swap(work, swap, replace(plan, after=plan.shrunk(shrunk.size)), size)
        assert plan.after
        target = plan.after.disk
        moved = _move(work, name, swap.nearer(target), strays)
    if target < present:
        _cut(work, target)
    return answer(work, shrunk, resized_image=target < present, moved=moved, notes=notes)


def _with_swap(work: Work, swap: TrailingSwap, plan: ResizePlan, size: int | None) -> ResizePlan:
    """The plan for a disk that ends with the swap partition, and has `size` bytes, or (None) as few
    as that allows."""
    if plan.after is None:
        return replace(plan, disk=None, move=f"move {described(swap.partition)} behind it")
    if size is None:
        end = swap.front.start + (plan.after.partition or 0)
        size = min(allocatable(work.place, swap.smallest_disk(end)), work.present)
    after = replace(plan.after, disk=size)
    return replace(plan, after=after, move=_move_step(swap, swap.nearer(size)))


def _require_fit_as_it_is(work: Work, swap: TrailingSwap, room: int | None, why: Error) -> None:
    """Raises `why`, with the smallest size that is possible, where what lies before the swap
    partition would have to shrink, and cannot."""
    if room is None and work.subject.kind not in OF_THE_GUEST:
        return
    if room is not None and room >= swap.front.size:
        return
    least = min(allocatable(work.place, swap.smallest_disk(end_of(swap.front))), work.present)
    raise type(why)(
        f"{why.message}. As it is, the image can be cut to {least} bytes ({format_size(least)})"
    )


def _move_step(swap: TrailingSwap, start: int) -> str:
    """The step of a plan that moves it to byte `start`, if it is not there."""
    if start == swap.partition.start:
        return ""
    return (
        f"move {described(swap.partition)} from byte {swap.partition.start} to byte {start}, and"
        " zero what was swapped to it"
    )


def _strays(work: Work, swap: TrailingSwap) -> Regions:
    """What an interrupted move left in the free space before and behind the swap partition.
    Raises `Unsafe` where anything else is there, but what a file system has moved away from."""
    front, own = claimed_end(swap.front), end_of(swap.partition)
    with work.place.store.open(work.place.name) as image:
        return (
            *_strays_in(image, swap, front, swap.edge, known=work.remnants),
            *_strays_in(image, swap, own, work.present),
        )


def _strays_in(
    image: Image, swap: TrailingSwap, first: int, end: int, *, known: int = 0
) -> Iterator[tuple[int, int]]:
    """Those in the free space from byte `first` to `end`. What anything before byte `known` is,
    is not asked."""
    start = max(first, known)
    while (offset := first_data(image, start, end)) is not None:
        with device_of(image) as disk:
            found = swap.stray(disk, offset)
            own = swap.table.own(disk, offset, end)
        if found and first <= found[0] and found[1] <= end:
            yield found
            start = found[1]
        elif own > offset:
            start = own
        else:
            raise Unsafe(
                f"there is data at byte {offset} ({format_size(offset)}), next to"
                f" {described(swap.partition)} and in no partition, where that, or what grows,"
                " would come to lie; zero it if it is of no use"
            )


def _shrink_front(work: Work, swap: TrailingSwap, name: str, plan: ResizePlan) -> Resized:
    """What lies before the swap partition, and its partition; what it has moved away from is
    zeroed."""
    subject, table, front, remnants = work.subject, swap.table, swap.front, work.remnants
    with writing(work, name) as image:
        with device_of(image, lock=work.place.lock) as disk:
            shrunk = subject.shrink(disk, plan.size, work.watch)
            image.flush()
            size = plan.shrunk(shrunk.size).partition or front.size
            left = table.left_behind(disk, disk.size)
            apply(disk, table.resized(front.number, size, disk.size) + left)
        zero_data(image, front.start + shrunk.size, min(max(subject.end, remnants), swap.edge))
        zero_data(image, front.start + size, end_of(front))
        image.flush()
    return shrunk


def _move(work: Work, name: str, start: int, strays: Regions) -> MovedPartition | None:
    """The swap partition, to byte `start`; None where it is there."""
    with writing(work, name) as image, device_of(image, lock=work.place.lock) as disk:
        for at, end in strays:
            image.zero(at, end - at)
        image.flush()
        table = read_table(disk)
        apply(disk, table.moved(disk.size) + table.left_behind(disk, disk.size))
        subject = choose(detect(disk), work.subject.number)
        swap = trailing_swap(disk, subject)
        if swap is None or swap.partition.start == start:
            return None
        _move_to(image, disk, swap, subject, start)
    old = swap.partition
    return MovedPartition(old.number, start, old.start, old.size)


def _move_to(image: Image, disk: Device, swap: TrailingSwap, subject: Subject, start: int) -> None:
    """What was swapped out is zeroed first, so that nothing but the header is left to be zeroed
    when the table has switched."""
    old, new = swap.partition, swap.moved(start)
    _require_place(swap, new.table, subject, start)
    contents = old.start + len(swap.header)
    zero_data(image, contents, min(end_of(old), start))
    zero_data(image, max(contents, start + old.size), end_of(old))
    image.flush()
    apply(disk, (Write(start, swap.header), *new.writes))
    for at, end in swap.footprint:
        image.zero(at, end - at)
    image.flush()


def _require_place(swap: TrailingSwap, table: Table, subject: Subject, start: int) -> None:
    """Raises `Unsafe` where anything else lies where it is to be, or claims to."""
    old = swap.partition
    first = min(start, old.start) - swap.lead
    end = max(start, old.start) + old.size
    require_free(table)
    refuse_to_write_into(subject.others, first, end, f"partition {old.number}", of=old.number)


def _cut(work: Work, size: int) -> None:
    """The image, to `size` bytes, behind which there is nothing but parts of its table."""
    place = work.place
    with writing(work, place.name) as image:
        with device_of(image, lock=place.lock) as disk:
            table = read_table(disk)
            apply(disk, table.moved(size) + table.left_behind(disk, size))
        image.flush()
        require_end(image, size)
    place.store.shrink(place.name, size)


def _seen(work: Work, name: str) -> Subject:
    """What is resized, as it is now."""
    with work.place.store.open(name) as image, device_of(image) as disk:
        return choose(detect(disk), work.subject.number)
