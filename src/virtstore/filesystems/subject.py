"""What a resize is about: the file system of an image, or the one in one of its partitions.

A `Subject` is chosen from what was recognised, knows what is possible before anything is
touched, and changes file system and partition in the safe order: a partition grows before
what is in it, and shrinks after it. The image itself is its caller's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from virtstore import programs
from virtstore.errors import Corrupt, Error, Unsafe, Unsupported, UsageError
from virtstore.filesystems.base import Device, FileSystem, Resized, Watch
from virtstore.filesystems.claims import (
    cut,
    missing,
    outgrown,
    overlapping,
    refuse_tables_parts,
    refuse_to_write_into,
)
from virtstore.filesystems.partitions.change import apply, changed
from virtstore.filesystems.partitions.roles import in_the_way, instead, moves
from virtstore.filesystems.partitions.table import ALIGNMENT, Table, Writes, end_of, rounded_up
from virtstore.model import Partition
from virtstore.units import format_size

_SECTOR: Final = 512
#: What changes its size writes there: every kind that is resized says there how large it is.
_HEAD: Final = 1 << 20

#: What holds more than a file system, and only the guest can resize.
FOR_THE_GUEST: Final = {
    "crypto_LUKS": "it is encrypted (LUKS), and what is in it can only be resized with its key:"
    " grow the image with 'virtstore grow', and in the guest the partition (growpart), then"
    " 'cryptsetup resize' and the file system",
    "LVM2_member": "it is a physical volume of the guest's LVM: grow the image with 'virtstore"
    " grow', then run pvresize, lvextend -r in the guest",
}
_PVRESIZE: Final = (
    "the partition holds a physical volume of the guest's LVM: run pvresize in the guest"
)


class Subject(msgspec.Struct, frozen=True):
    """What a resize is about. `present` and `minimum`: the file system's bytes now and at least,
    None where that cannot be told, or was not asked (`measured`). `filesystem`: None where it
    cannot be changed, for the reason `trouble`; if there is none, it is a physical volume, of which
    only the partition grows. `others`: all partitions of the disk."""

    kind: str
    filesystem: FileSystem | None
    present: int | None
    minimum: int | None = None
    partition: Partition | None = None
    table: Table | None = None
    uuid: str | None = None
    others: tuple[Partition, ...] = ()
    trouble: Error | None = None

    def measured(self, disk: Device) -> Subject:
        """The same with its minimum, for which a tool reads all the file system's maps."""
        if self.filesystem is None:
            return self
        minimum = self.filesystem.minimum(self._device(disk))
        return msgspec.structs.replace(self, minimum=minimum)

    @property
    def start(self) -> int:
        """The byte of the disk where the file system begins."""
        return self.partition.start if self.partition else 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What others have to do once it has grown, as messages."""
        return () if self.filesystem else (_PVRESIZE,)

    @property
    def number(self) -> int | None:
        """The number of its partition; None for a bare file system."""
        return self.partition.number if self.partition else None

    @property
    def end(self) -> int:
        """The byte of the disk where the file system says that it ends."""
        return self.start + (self.present or 0)

    @property
    def in_the_way(self) -> str | None:
        """What keeps it from reaching the end of the disk, as a message says it; None for
        nothing."""
        return in_the_way(self.partition, self.others) if self.partition else None

    @property
    def way_out(self) -> str:
        """How that is moved, where it can be; to be added to the message."""
        movable = self.partition and moves(self.partition, self.others)
        return "; 'virtstore resize' with --move-swap moves that" if movable else ""

    @property
    def _instead(self) -> str:
        assert self.partition
        return instead(self.partition, self.others)

    def only_cut(self, size: int | None) -> Error | None:
        """Why an image gets as small as `size` (None: as it can) only by cutting what is free
        behind its partitions; None where what is in this partition may shrink."""
        if self.trouble or self.table is None:
            return self.trouble
        if self.in_the_way:
            return Unsupported(f"{self.in_the_way}. {self._instead}")
        if self.filesystem is None:
            return Unsupported(FOR_THE_GUEST[self.kind])
        able = self.filesystem.capabilities
        if able.shrink or not able.why_not or (size is not None and size < self.table.least):
            return None
        return able.why_not()

    def require_way(self) -> None:
        """Raises `Unsupported` where it cannot have the space by which the image grows."""
        if self.in_the_way:
            raise Unsupported(
                f"{self.in_the_way}, so it can have nothing of what the image would grow by."
                f" {self._instead}; 'virtstore grow' makes the image longer alone"
            )

    def require_able_inside(self) -> None:
        """Raises the reason for which what is in it can neither grow nor shrink."""
        if self.trouble:
            raise self.trouble

    def require_whole(self, disk_size: int) -> None:
        """Raises `Corrupt` where a part of it is cut off: growing the disk would put zeros there,
        which may pass a check."""
        if self.end > disk_size:
            where = f" in partition {self.partition.number}" if self.partition else ""
            raise Corrupt(missing(f"its {self.kind} file system{where}", self.end, disk_size))
        if self.partition and end_of(self.partition) > disk_size:
            raise Corrupt(cut(self.partition, disk_size))

    def require_undisputed(self, disk_size: int) -> None:
        """Raises `Unsafe` where another file system claims bytes that may be written when it is
        resized on a disk that is to have `disk_size`."""
        if self.table:
            refuse_tables_parts(self.table, self.others, disk_size, of=self.number)
        if self.partition:
            end, name = max(end_of(self.partition), self.end), f"partition {self.number}"
            refuse_to_write_into(self.others, self.start, end, name, of=self.number)

    def room(self, disk_size: int) -> int:
        """Bytes that the file system could have at most on a disk of `disk_size`. Raises
        `Unsafe` where it has no place there."""
        if self.partition is None or self.table is None:
            return disk_size
        end = self.table.room(self.partition.number, disk_size)
        if end <= self.partition.start:
            raise Unsafe(
                f"partition {self.partition.number} begins at byte {self.partition.start}; no part"
                f" of it would be left on a disk of {disk_size} bytes"
            )
        return end - self.partition.start

    def smallest_disk(self, size: int) -> int:
        """Bytes that a disk needs for the file system to have `size`."""
        if self.partition is None or self.table is None:
            return rounded_up(size, _SECTOR)
        wanted = min(rounded_up(size, ALIGNMENT), max(size, self.partition.size))
        return self.table.smallest_disk(self.partition.number, wanted)

    def require_growth(self, size: int | None, disk_size: int) -> None:
        """Raises where it cannot grow to `size` bytes (None: as far as there is room) on a disk
        that is to have `disk_size`."""
        self.require_able_inside()
        if self.partition and self.end > end_of(self.partition):
            self._require_place(self.partition)
        self.require_undisputed(disk_size)
        self._require_growth(size, disk_size)

    def _require_place(self, partition: Partition) -> None:
        """Raises `Unsafe` where another partition lies upon the end of its file system."""
        if overlapping(partition, self.others):
            raise Unsafe(outgrown(partition, self.others))

    def _require_growth(self, size: int | None, disk_size: int) -> None:
        """Raises `UsageError` for a size that the image has no room for, or that would shrink,
        and what `_require_able` does."""
        self._require_able(growing=True)
        self._require_place_for_the_table(disk_size)
        room = self.room(disk_size)
        if size is not None and size > room:
            raise UsageError(
                f"the file system can have {room} bytes ({format_size(room)}) here, not {size};"
                " grow the image first ('virtstore grow', or 'virtstore resize' for both)"
            )
        if size is not None and self.present is not None and size < self.present:
            raise UsageError(
                f"the file system has {self.present} bytes ({format_size(self.present)}), more"
                f" than the {size} asked for; 'virtstore shrinkfs' makes it smaller"
            )

    def _require_place_for_the_table(self, disk_size: int) -> None:
        """Raises `UsageError` where a disk of `disk_size` ends in what its GPT needs behind the
        last partition: growing would have to begin with making that smaller."""
        if self.partition is None or self.table is None:
            return
        needed = self.table.smallest_disk(self.partition.number, self.partition.size)
        if needed > disk_size:
            raise UsageError(
                f"behind its last partition there is no room for the second copy of its partition"
                f" table (GPT): the image has {disk_size} bytes and needs {needed}"
                f" ({format_size(needed)}). 'virtstore resize' to that size or a larger one makes"
                " room for it; to 'minimum' it shrinks what is in the image instead"
            )

    def _require_able(self, *, growing: bool) -> None:
        """Raises `Unsupported`, or what the file system says itself, for what it or this host
        cannot do; and `Corrupt` where its size cannot be told: an image that was grown for it
        in vain could not be seen to be empty behind it, and so not be cut back."""
        if self.filesystem is None:
            return
        found = self.filesystem.capabilities
        if not (found.grow if growing else found.shrink) and found.why_not:
            raise found.why_not()
        for tool in found.tools:
            programs.require(tool)
        if found.mounted and os.geteuid() != 0:
            raise Unsupported(
                f"{self.kind} has to be mounted to be resized, which only root can: run the agent"
                " as root there (VIRTSTORE_AGENT='sudo virtstore-agent')"
            )
        if self.present is None:
            raise Corrupt(
                f"its {self.kind} file system says no size that could be true, so what it begins"
                " with is damaged; its own tools may find a copy of that (for ext: e2fsck -b)"
            )

    def require_fit(self, size: int | None, disk_size: int) -> None:
        """Raises before anything is touched if it cannot be shrunk to `size` bytes (None: as
        far as it goes), or its table not be one for a disk of `disk_size`."""
        self.require_undisputed(disk_size)
        if self.partition and self.table:
            if self.end > end_of(self.partition):
                raise Unsafe(outgrown(self.partition, self.others))
            room = self.room(disk_size)
            keeps = min(self.partition.size, room if size is None else size)
            self.table.resized(self.partition.number, keeps, disk_size)
            if size is None and self.minimum is not None and self.minimum > room:
                size = room  # where the image ends there has to be a second copy of the table
        if size is not None and self.present is not None and size >= self.present:
            return
        self.require_able_inside()
        if self.filesystem is None:
            raise Unsupported(FOR_THE_GUEST[self.kind])
        self._require_able(growing=False)
        if size is not None and self.minimum is not None and size < self.minimum:
            raise Unsafe(
                f"its {self.kind} file system needs at least {self.minimum} bytes"
                f" ({format_size(self.minimum)}), as far as it can tell beforehand; the smallest"
                f" image for that has {self.smallest_disk(self.minimum)} bytes. 'minimum' goes as"
                " far as it gets, which may be further"
            )

    @contextmanager
    def grown(self, disk: Device, size: int | None) -> Iterator[tuple[Device, bool]]:
        """The partition, grown to `size` bytes (None: the disk, where there is none), as a device,
        and whether it has grown. An error within the block puts the table back."""
        if self.partition is None or size is None:
            yield disk, False
            return
        writes = self._moved(disk, size, disk.size)
        with changed(disk, writes, disk.part(self.partition.start, _HEAD)):
            yield disk.part(self.partition.start, size), size > self.partition.size

    @property
    def _can_tell_more(self) -> bool:
        """Whether its own shrink looks further than the superblock."""
        able = self.filesystem.capabilities if self.filesystem else None
        return able is not None and (able.shrink or able.mounted)

    def shrink(self, disk: Device, size: int | None, watch: Watch) -> Resized:
        """Shrink the file system. A file system that says it is small enough is asked too: a
        journal with a growth in it says otherwise."""
        fits = size is not None and self.present is not None and self.present <= size
        if self.present is not None and fits and not self._can_tell_more:
            return Resized(self.present, changed=False)
        assert self.filesystem  # require_fit
        return self.filesystem.shrink(self._device(disk), size, watch)

    def shrink_partition(self, disk: Device, size: int | None, disk_size: int) -> bool:
        """Shrink the partition, where it is in one, to `size` bytes, and put the table's own data
        where a disk of `disk_size` ends. Whether that changed anything."""
        if size is None:
            return False
        return apply(disk, self._moved(disk, size, disk_size))

    def _moved(self, disk: Device, size: int, disk_size: int) -> Writes:
        """What makes the partition one of `size` bytes on a disk of `disk_size`, and leaves no
        second copy of the table where that had it before."""
        assert self.partition
        assert self.table
        resized = self.table.resized(self.partition.number, size, disk_size)
        return resized + self.table.left_behind(disk, disk_size)

    def _device(self, disk: Device) -> Device:
        if self.partition is None:
            return disk
        return disk.part(self.partition.start, self.partition.size)
