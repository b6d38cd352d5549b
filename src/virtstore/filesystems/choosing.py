"""Which file system of a disk a resize is about, of what was recognised there."""

from __future__ import annotations

from typing import Final

import msgspec

from virtstore.errors import NotFound, Unsafe, Unsupported, UsageError
from virtstore.filesystems import registry
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.roles import meant
from virtstore.filesystems.partitions.table import Table, find, is_container
from virtstore.filesystems.subject import FOR_THE_GUEST, Subject
from virtstore.model import Filesystem

#: File systems that are made to begin with a partition table.
_HYBRID: Final = ("iso9660", "udf")
_ALONE: Final = "'virtstore grow' and 'virtstore shrink' change an image alone"
_EMPTY: Final = "its partition table is empty: there is no partition to resize"


def choose(contents: Contents, number: int | None) -> Subject:
    """The subject on a disk: its file system, or that of partition `number` (None: of the one
    that is meant, as roles.py has it). Raises `Unsupported`, `UsageError`, `NotFound`."""
    table = contents.table
    if table and contents.filesystem and not table.partitions:
        table = None  # a file system's boot sector looks like an empty table
    if table is not None and contents.filesystem is not None:
        raise Unsafe(_both(contents.filesystem.type))
    if table is None:
        if number is not None:
            raise UsageError("it has no partitions; leave --partition out")
        return _whole(contents)
    if number is None and all(map(is_container, contents.partitions)):
        return Subject("table", None, None, table=table, trouble=NotFound(_EMPTY))
    return _in_partition(contents, table, number)


def _both(kind: str) -> str:
    """Why nothing is resized where there is a table and, in the same place, a `kind`."""
    if kind in _HYBRID:
        return (
            f"it is an {kind} image that is a partitioned disk as well, as for sticks to boot from:"
            " both are meant, so leave both as they are (wipefs would spoil it). Nothing in it can"
            " be resized; 'virtstore grow' makes room behind it"
        )
    if kind.endswith("_member"):
        return (
            f"it has a partition table and is a {kind}: what is in it is laid out by the guest,"
            " which alone can resize it; 'virtstore grow' makes room for that"
        )
    return (
        f"it has a partition table and, in the same place, a {kind} file system; which one counts"
        " cannot be told. See which the guest uses (lsblk -f there). If the other is left of old,"
        " 'wipefs --offset' takes that one mark away: try it on a copy first"
    )


def _whole(contents: Contents) -> Subject:
    subject = _subject(contents, contents.filesystem, "it")
    subject.require_able_inside()
    if subject.filesystem is None:  # a physical volume that is the whole image
        raise Unsupported(FOR_THE_GUEST[subject.kind])
    return subject


def _in_partition(contents: Contents, table: Table, number: int | None) -> Subject:
    known = contents.partitions
    chosen = meant(known) if number is None else find(known, number)
    subject = _subject(contents, chosen.filesystem, f"partition {chosen.number}")
    return msgspec.structs.replace(subject, partition=chosen, table=table, others=known)


def _subject(contents: Contents, found: Filesystem | None, where: str) -> Subject:
    if found is None:
        why = f" ({'; '.join(contents.warnings)})" if contents.warnings else ""
        said = f"no file system was recognised in {where}{why}; {_ALONE}"
        return Subject("unknown", None, None, trouble=Unsupported(said))
    if found.type == "LVM2_member":
        return Subject(found.type, None, found.size)
    if found.type in FOR_THE_GUEST:
        return Subject(found.type, None, found.size, trouble=Unsupported(FOR_THE_GUEST[found.type]))
    try:
        filesystem = registry.for_type(found.type)
    except Unsupported as error:
        return Subject(found.type, None, found.size, trouble=error)
    return Subject(found.type, filesystem, found.size, uuid=found.uuid)
