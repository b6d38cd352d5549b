"""The tables that a qcow2's header points to: where they lie, and the names in two of them.

Of the L1 and the refcount table only the place is looked at. What stands in them is for the
engine, which is confined.

Source: QEMU's docs/interop/qcow2.txt, block/qcow2.h and block/qcow2-bitmap.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.formats.disks.base import fields, read, require_inside
from virtstore.text import printable

_MOST_L1: Final = 32 << 20
#: Far more than people have; QEMU itself would read 65536 of each.
_MOST_NAMES: Final = 1024
_MOST_NAME: Final = 1023
_MOST_EXTRA: Final = 1024
_MOST_DIRECTORY: Final = 4 << 20
_MOST_BITMAP_TABLE: Final = 32 << 20
_TRACKING: Final = 1
_GRANULARITY: Final = range(9, 32)


class Table(NamedTuple):
    """Where `what` lies, in bytes of the file."""

    what: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def require_l1(source: ArchiveSource, table: Table, cluster_size: int) -> None:
    """Raises `Corrupt` unless an L1 table can lie there."""
    require_table(source, table, cluster_size, _MOST_L1)


def require_table(source: ArchiveSource, table: Table, cluster_size: int, most: int) -> None:
    """Raises `Corrupt` unless a table of at most `most` bytes can lie there: behind the header, at
    the start of a cluster, and in the file."""
    what, offset, length = table
    if length > most:
        raise Corrupt(
            f"{what} would have {length} bytes, and {most} are the most: its header is damaged, or"
            " was made to do harm; restore the image from a backup"
        )
    if offset < cluster_size or offset % cluster_size:
        raise Corrupt(
            f"{what} would lie at byte {offset}, where no cluster of {cluster_size} bytes for it"
            " begins: the image's header is damaged; restore the image from a backup"
        )
    require_inside(source, what, offset, length)


def snapshot_names(
    source: ArchiveSource, offset: int, count: int, cluster_size: int
) -> tuple[str, ...]:
    """The names of the internal snapshots, `count` of them in the table at `offset`; of one without
    a name its id. Their L1 tables are looked at as the disk's own."""
    if count == 0:
        return ()
    _require_few("internal snapshots", count, "`qemu-img snapshot -d NAME FILE`")
    require_table(source, Table("its snapshot table", offset, 40), cluster_size, 40)
    return tuple(_snapshots(source, offset, count, cluster_size))


def _snapshots(source: ArchiveSource, at: int, count: int, cluster_size: int) -> Iterator[str]:
    for _ in range(count):
        l1, entries, identity, name, extra = fields(source, at, ">QIHH20xI")
        if extra > _MOST_EXTRA or max(identity, name) > _MOST_NAME:
            raise _damaged_table("snapshot table")
        require_l1(source, Table("a snapshot's L1 table", l1, entries * 8), cluster_size)
        words = read(source, at + 40 + extra, identity + name)
        yield printable(words[identity:] or words)
        at = _aligned(at + 40 + extra + identity + name)


def bitmap_names(
    source: ArchiveSource, directory: Table, count: int, cluster_size: int
) -> tuple[str, ...]:
    """The names of the persistent bitmaps, `count` of them in `directory`."""
    _require_few("persistent bitmaps", count, "`qemu-img bitmap --remove FILE NAME`")
    require_table(source, directory, cluster_size, _MOST_DIRECTORY)
    return tuple(_bitmaps(source, directory, count, cluster_size))


def _bitmaps(
    source: ArchiveSource, directory: Table, count: int, cluster_size: int
) -> Iterator[str]:
    at = directory.offset
    for _ in range(count):
        table, entries, flags, kind, granularity, name, extra = fields(source, at, ">QIIBBHI")
        after = _aligned(at + 24 + extra + name)
        known = kind == _TRACKING and granularity in _GRANULARITY and not (flags & ~3 or extra)
        if after > directory.end or not 0 < name <= _MOST_NAME or not known:
            raise _damaged_table("bitmap directory")
        bitmap = Table("a bitmap's table", table, entries * 8)
        require_table(source, bitmap, cluster_size, _MOST_BITMAP_TABLE)
        yield printable(read(source, at + 24 + extra, name))
        at = after
    if at != directory.end:
        raise _damaged_table("bitmap directory")


def _require_few(what: str, count: int, remove: str) -> None:
    if count > _MOST_NAMES:
        raise Unsupported(
            f"its header says that it has {count} {what}, and at most {_MOST_NAMES} are read here;"
            f" {remove} removes one. If it never had so many, its header is damaged"
        )


def _damaged_table(what: str) -> Corrupt:
    return Corrupt(
        f"the names in its {what} do not fit in there: it is damaged. Copy the file"
        " (`cp --sparse=always FILE FILE.damaged`), then `qemu-img check -r all FILE` mends what"
        " can be mended; or restore it from a backup"
    )


def _aligned(offset: int) -> int:
    return offset + -offset % 8
