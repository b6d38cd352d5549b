"""What is free behind the last partition of an image is cut off; in the partitions nothing changes.

What is in the partitions need not be known for that. So free space is also cut behind contents
that nobody recognises, and behind those that only the guest can shrink.
"""

from __future__ import annotations

from virtstore.agent.operations.cut_checks import (
    device_of,
    refuse_to_cut_the_unknown,
    require_end,
)
from virtstore.agent.operations.resizing_work import Work, allocatable, answer, promise, writing
from virtstore.errors import Error
from virtstore.filesystems import resize_plan
from virtstore.filesystems.claims import refuse_to_write_into
from virtstore.filesystems.partitions.change import apply
from virtstore.filesystems.partitions.roles import OF_THE_GUEST
from virtstore.protocol import Done
from virtstore.units import format_size


def cut_free_space(work: Work, size: int | None, why: Error, *, dry_run: bool) -> Done:
    """Cut the image to `size`, or (None) behind its last partition. `why` is the reason for which
    nothing in the partitions shrinks, raised where that would have to."""
    table, present = work.subject.table, work.present
    if table is None:
        raise why
    least = min(allocatable(work.place, table.least), present)
    target = least if size is None else size
    if target < least or (size is None and work.subject.kind in OF_THE_GUEST):
        raise type(why)(
            f"{why.message}. As its partitions are, the image can be cut to {least} bytes"
            f" ({format_size(least)}), by 'virtstore resize' to that size"
        )
    notes = () if size is not None else (f"nothing in its partitions was shrunk: {why.message}",)
    if target < present:
        _refuse(work, target)
    if dry_run:
        return promise(work, resize_plan.cut(work.subject, present, target), notes, fills=False)
    if target == present:
        return answer(work, None, notes=notes)
    with writing(work, work.place.name) as image:
        with device_of(image, lock=work.place.lock) as disk:
            apply(disk, table.moved(target))
        image.flush()
        require_end(image, target)
    work.place.store.shrink(work.place.name, target)
    return answer(work, None, resized_image=True, notes=notes)


def _refuse(work: Work, size: int) -> None:
    """Raises where the image cannot be cut to `size`, before anything is touched."""
    subject = work.subject
    assert subject.table
    work.require_shrinking()
    subject.table.moved(size)
    subject.require_undisputed(size)
    end = subject.table.backup(size)
    refuse_to_write_into(subject.others, end, work.present, "what would be cut off")
    work.refuse_to_write_upon_the_unknown(size)
    with work.place.store.open(work.place.name) as image:
        refuse_to_cut_the_unknown(image, size, work.remnants)
