"""What is inside an image is never cut unknowingly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.agent.container import looks_like
from virtstore.backends.base import Image, Readable
from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Error, Unsafe
from virtstore.filesystems import registry
from virtstore.filesystems.base import Device
from virtstore.filesystems.claims import claimed_end, outgrown
from virtstore.filesystems.detect import Contents, detect, end_of_contents
from virtstore.filesystems.partitions.roles import meant
from virtstore.filesystems.partitions.table import Table, end_of, is_container
from virtstore.model import Partition
from virtstore.units import format_size

_SECTOR: Final = 512


@contextmanager
def device_of(image: Readable, *, lock: int = -1) -> Iterator[Device]:
    """The image as a device that tools can open."""
    with image.lend() as fd:
        yield Device(fd, image.size, lock=lock, keeps=image.keeps)


def refuse_to_cut(image: Image, size: int) -> None:
    """Raises `Unsafe` unless everything from byte `size` on is of no use to anyone: behind
    every file system and partition, and zeros."""
    held = looks_like(image)
    if held and held.container:  # on a volume: a file that is one was refused before
        raise Unsafe(
            f"what is in it looks like {held.kind.what}, of which any byte may be in use;"
            " --discard-data cuts it anyway"
        )
    with device_of(image) as device:
        found = detect(device)
    if why := _cuts_contents(image, found, size) or _cuts_data(image, found.table, size):
        raise Unsafe(why)


def _cuts_contents(image: Image, found: Contents, size: int) -> str | None:
    """Why a cut to `size` bytes may take away a part of what was recognised."""
    end = end_of_contents(found)
    if end is None:
        return (
            f"what would be cut off cannot be shown to be empty: {_unmeasured(found)};"
            " --discard-data cuts it anyway"
        )
    copy = image.size if found.table is None else found.table.backup(image.size)
    if first_data(image, max(copy, size), image.size) is not None:
        return (
            "its partition table (GPT) keeps a copy of itself in the last sectors, which would be"
            " cut off; 'virtstore resize' moves that and shrinks what is in the image,"
            " --discard-data cuts it off"
        )
    if end <= size:
        return None
    if (last := _last(found)) and claimed_end(last) > end_of(last):
        return f"{outgrown(last, found.partitions)}; --discard-data cuts it anyway"
    return (
        f"{_names(found)} ends at byte {end} ({format_size(end)}); the smallest size that"
        f" keeps it is {end} bytes. {_smaller(found)}--discard-data cuts it anyway"
    )


def _cuts_data(image: Image, table: Table | None, size: int) -> str | None:
    """Why a cut to `size` bytes takes away data, which is behind all that was recognised."""
    offset = first_data(image, size, image.size)
    if offset is None:
        return None
    where = f"at byte {offset} ({format_size(offset)})"
    if _first_unknown(image, table, size, image.size) is None:
        return (
            f"its partition table (GPT) has a copy of itself {where}, left there when the disk had"
            " another size; 'virtstore resize' to the size that is wanted cuts that off, and"
            " --discard-data too"
        )
    return (
        f"there is data {where}, behind the end of what was recognised; --discard-data cuts it off"
    )


def refuse_to_cut_the_unknown(image: Image, size: int, remnants: int) -> None:
    """Raises `Unsafe` where there is data from byte `size` on that lies behind everything that was
    recognised. Called before anything is shrunk: afterwards such data cannot be told from what the
    file system left there. Data before byte `remnants` is what an interrupted resize left there."""
    with device_of(image) as disk:
        found = detect(disk)
    end = end_of_contents(found)
    if end is None:
        raise Unsafe(f"what would be cut off cannot be shown to be empty: {_unmeasured(found)}")
    offset = _first_unknown(image, found.table, max(end, size, remnants), image.size)
    if offset is not None:
        raise Unsafe(
            f"there is data at byte {offset} ({format_size(offset)}), behind the end of what was"
            " recognised; 'virtstore shrink --discard-data' cuts it off (after 'virtstore"
            " shrinkfs', where what is in the image has to become smaller for that)"
        )


def unknown_inside(image: Image, partition: Partition, start: int) -> str | None:
    """A sentence about the data that a partition has from byte `start` on, behind its file system;
    None where there is none."""
    with device_of(image) as disk:
        head = disk.read(partition.start, _SECTOR)
    while (offset := first_data(image, start, end_of(partition))) is not None:
        sector = offset - (offset - partition.start) % _SECTOR
        if image.read_at(sector, _SECTOR) != head:
            return (
                f"there is data at byte {offset} ({format_size(offset)}), in partition"
                f" {partition.number} and behind the file system in it, which nobody recognises"
            )
        start = sector + _SECTOR  # ntfsfix puts a copy of NTFS's boot sector at a partition's end
    return None


def refuse_to_cut_inside(image: Image, partition: Partition, start: int) -> None:
    """Raises `Unsafe` where a partition that is to end before byte `start` has unknown data behind
    that. Called before anything is shrunk, as `refuse_to_cut_the_unknown`."""
    if found := unknown_inside(image, partition, start):
        raise Unsafe(
            f"{found}. If it is of no use, 'virtstore shrinkfs' has the partition end with its file"
            " system, and 'virtstore shrink --discard-data' cuts off what is behind that"
        )


def refuse_to_write_upon_the_unknown(
    image: Image, table: Table | None, size: int, remnants: int
) -> None:
    """Raises `Unsafe` where data behind all partitions would be overwritten by the second copy of a
    GPT, at the end of a disk of `size` bytes."""
    if table is None:
        return
    end = max((end_of(p) for p in table.partitions), default=0)
    start = max(end, table.backup(size), remnants)
    offset = _first_unknown(image, table, start, min(size, image.size))
    if offset is not None:
        raise Unsafe(
            f"there is data at byte {offset} ({format_size(offset)}), behind the last partition,"
            " where the second copy of its partition table (GPT) would have to go, at the end of"
            f" {size} bytes; resize the image to another size, or zero that data if it is of no use"
        )


def what_is_in(image: Image) -> str:
    """What is recognised in an image, as a message lists it to who is about to lose it."""
    try:
        with device_of(image) as device:
            found = detect(device)
    except Error as error:
        return f"that could not be looked at ({error.message})"
    inside = [found.filesystem, *(part.filesystem for part in found.partitions)]
    told = [f"{len(found.partitions)} partitions"] if found.table else []
    told += [" ".join(filter(None, (each.type, each.label, each.uuid))) for each in inside if each]
    return ", ".join(told) or "nothing that is recognised, so it may be anything"


def require_end(image: Image, size: int) -> None:
    """Raises `Unsafe` unless all that is in the image is seen to end before byte `size`."""
    with device_of(image) as disk:
        end = end_of_contents(detect(disk))
    if end is None or end > size:
        where = "somewhere that cannot be told" if end is None else f"at byte {end}"
        raise Unsafe(
            f"what is in it ends {where}, which may be behind the {size} bytes that it would"
            " be cut to; the image keeps its size"
        )


def zero_data(image: Image, start: int, end: int) -> None:
    """Zero a range; only what is not zero is written."""
    while (offset := first_data(image, start, end)) is not None:
        start = min(end, offset - offset % CHUNK + CHUNK)
        image.zero(offset, start - offset)


def _unmeasured(found: Contents) -> str:
    """Why the end of an image's contents is not known."""
    if found.warnings:
        return "; ".join(found.warnings)
    if found.filesystem:
        return f"how far a file system of type {found.filesystem.type} reaches is not read here"
    return "what is in it could not be measured"


def _smaller(found: Contents) -> str:
    """The advice to shrink what ends last, where it can be shrunk; else ""."""
    last = _last(found)
    inside = last.filesystem if last else found.filesystem
    if inside is None or not registry.can_shrink(inside.type):
        return ""
    other = last is not None and meant(found.partitions).number != last.number
    number = f" with --partition {last.number}" if last and other else ""
    return f"'virtstore resize'{number} shrinks what is in it first; "


def _names(found: Contents) -> str:
    if last := _last(found):
        return f"partition {last.number}"
    return f"the {found.filesystem.type} file system" if found.filesystem else "what is in it"


def _last(found: Contents) -> Partition | None:
    """The partition that reaches furthest, its file system included."""
    inside = [p for p in found.partitions if not is_container(p)] or found.partitions
    return max(inside, key=claimed_end, default=None)


def _first_unknown(image: Image, table: Table | None, start: int, end: int) -> int | None:
    """As `first_data`, without data that the partition table has there itself."""
    while (offset := first_data(image, start, end)) is not None and table is not None:
        with device_of(image) as disk:
            start = table.own(disk, offset, end)
        if start <= offset:
            return offset
    return offset


def first_data(image: Image, start: int, end: int) -> int | None:
    """The first byte from `start` and before `end` that is not zero."""
    for extent in image.extents():
        if extent.kind == "zero":
            continue
        offset = max(extent.offset, start)
        stop = min(extent.end, end)
        while offset < stop:
            block = image.read_at(offset, min(CHUNK, stop - offset))
            if block != ZEROS[: len(block)]:
                return offset + len(block) - len(block.lstrip(b"\0"))
            offset += len(block)
    return None
