"""Which bytes of a disk a recognised file system takes for its own, whatever its partition says.

A file system that was grown by hand, and its table not, reaches beyond its partition; one whose
image was cut, beyond the image. Nobody else may write into bytes that it claims, and what is
missing of it comes back with no growth of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from virtstore.errors import Unsafe
from virtstore.filesystems.partitions.table import Table, end_of, is_container
from virtstore.model import Filesystem, Partition
from virtstore.units import format_size


def claimed_end(partition: Partition) -> int:
    """The byte where a partition ends, or the file system in it if that reaches further."""
    inside = partition.filesystem.size if partition.filesystem else None
    return max(end_of(partition), partition.start + (inside or 0))


def remarks(partitions: Iterable[Partition], disk_size: int) -> Iterator[str]:
    """What is wrong with the file systems of these partitions, or missing of them, on a disk of
    `disk_size` bytes."""
    known = [p for p in partitions if not is_container(p)]
    for each in known:
        if claimed_end(each) > disk_size:
            yield cut(each, disk_size)
        elif claimed_end(each) > end_of(each):
            yield outgrown(each, known)


def losses(
    filesystem: Filesystem | None, partitions: Iterable[Partition], disk_size: int
) -> Iterator[str]:
    """What is missing of what was on a disk that was cut to `disk_size` bytes."""
    if filesystem and (filesystem.size or 0) > disk_size:
        yield missing(f"its {filesystem.type} file system", filesystem.size or 0, disk_size)
    for each in partitions:
        size = each.filesystem.size if each.filesystem else None
        if not is_container(each) and each.start + (size or each.size) > disk_size:
            yield cut(each, disk_size)


def missing(name: str, end: int, disk_size: int) -> str:
    """A sentence: how much of `name` is cut off."""
    lost = end - disk_size
    return (
        f"{name} ends at byte {end} and the image has {disk_size}: the image was cut, and the last"
        f" {lost} bytes ({format_size(lost)}) of it are missing. Growing it puts zeros there and"
        " does not bring back what is lost; take that from another copy of the image"
    )


def cut(each: Partition, disk_size: int) -> str:
    """What is missing of a partition that is cut off, or of the file system in it."""
    inside = each.filesystem
    if inside is None or inside.size is None:
        what = f" ({inside.type})" if inside else ""
        return missing(f"partition {each.number}{what}", end_of(each), disk_size)
    end = each.start + inside.size
    if end > disk_size:
        return missing(f"the {inside.type} file system in partition {each.number}", end, disk_size)
    lost = end_of(each) - disk_size
    return (
        f"the image was cut: {lost} bytes ({format_size(lost)}) of partition {each.number} are"
        " missing, but its file system ends before that. 'virtstore grow' to"
        f" {end_of(each)} bytes, or more, makes the partition whole"
    )


def overlapping(each: Partition, partitions: Iterable[Partition]) -> Partition | None:
    """The partition that lies upon the end of the file system in another, if there is one."""
    for other in partitions:
        if is_container(other) or other.number == each.number:
            continue
        if each.start < other.start < claimed_end(each):
            return other
    return None


def outgrown(each: Partition, partitions: Iterable[Partition]) -> str:
    """A sentence: the file system in a partition is larger than that, and what can be done."""
    assert each.filesystem
    said = (
        f"the {each.filesystem.type} file system in partition {each.number} has"
        f" {each.filesystem.size} bytes and the partition {each.size}:"
    )
    if other := overlapping(each, partitions):
        return (
            f"{said} partition {other.number} lies upon the end of it, from byte {other.start} on,"
            " and what is written there spoils one of them; copy the files of both to a new disk"
            " before anything else"
        )
    return (
        f"{said} it was grown, and its partition was not; 'virtstore growfs' with --partition"
        f" {each.number} makes the partition as large"
    )


def refuse_to_write_into(
    partitions: Iterable[Partition], start: int, end: int, what: str, *, of: int | None = None
) -> None:
    """Raises `Unsafe` where a file system claims a byte from `start` to `end`. `what`: what is to
    be written there; `of`: the partition whose own file system may claim them."""
    for each in partitions:
        if each.number == of or is_container(each) or each.filesystem is None:
            continue
        if each.start < end and start < claimed_end(each):
            raise Unsafe(
                f"the {each.filesystem.type} file system in partition {each.number} claims the"
                f" bytes from {each.start} to {claimed_end(each)}, also where {what} lies:"
                " changing that would write into it. Take what is wanted of both to a new disk (a"
                " table that lies at the disk's end gets another place by 'virtstore grow')"
            )


def refuse_tables_parts(
    table: Table, partitions: tuple[Partition, ...], disk_size: int, *, of: int | None
) -> None:
    """Raises `Unsafe` where a file system claims bytes to which a partition table's parts are
    written on a disk that is to have `disk_size`, or where an old part is zeroed. `of`: the
    partition whose own file system may claim them."""
    behind = max((end_of(p) for p in partitions if not is_container(p)), default=0)
    for size in {disk_size, table.disk}:
        if (start := table.backup(size)) < size:
            copy = "the second copy of its partition table (GPT)"
            refuse_to_write_into(partitions, min(start, behind), size, copy, of=of)
    for start, end in table.among:
        refuse_to_write_into(partitions, start, end, f"the table at byte {start}", of=of)
