"""What a resize changes, worked out before anything is touched: the sizes of a disk, of the
partition on it that is resized, and of the file system in that, before and after.

A plan is made of values, once, without a look at the disk: a dry run tells its steps, and the real
run carries it out. How small a file system gets is certain only when it has shrunk; `shrunk` gives
the sizes that follow from that. What cannot succeed raises while the plan is made. Whether unknown
data is in the way is for the caller to see.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from virtstore.filesystems.partitions.table import rounded_up
from virtstore.filesystems.subject import Subject
from virtstore.units import format_size


class Sizes(msgspec.Struct, frozen=True):
    """Bytes. `partition` None: the file system is in none. `filesystem` None: it is not known."""

    disk: int
    partition: int | None
    filesystem: int | None


class ResizePlan(msgspec.Struct, frozen=True):
    """`after` None: only shrinking tells. `disk`: the size that the disk is to have, None for the
    smallest; `size`: the size that the file system is told to have at most, None for all that there
    is room for, or the smallest. `unit`: the size of a disk is a multiple of it. `move`: the step
    that moves what lies behind the partition."""

    verb: Literal["grow", "shrink"]
    subject: Subject
    before: Sizes
    after: Sizes | None
    disk: int | None
    size: int | None
    unit: int = 1
    move: str = ""

    @property
    def kept_end(self) -> int:
        """The byte of the disk up to which partition and file system keep what they have, as far as
        that is certain."""
        return max(self.subject.end, self.subject.start + (self.size or 0))

    def shrunk(self, filesystem: int) -> Sizes:
        """What there is once the file system has shrunk to so many bytes. A partition in which
        there is free space keeps what it can of it."""
        keeps = filesystem if self.size is None else max(self.size, filesystem)
        if self.disk is not None:
            return Sizes(self.disk, self._partition(keeps, self.disk), filesystem)
        disk = self._whole_units(self.subject.smallest_disk(keeps))
        partition = self._partition(keeps, disk)
        if self.subject.table and self.subject.number is not None and partition is not None:
            # The partition ends with a MiB, wherever it begins.
            least = self.subject.table.smallest_disk(self.subject.number, partition)
            disk = self._whole_units(least)
        return Sizes(disk, partition, filesystem)

    def steps(self, path: str) -> list[str]:
        """What is done to the image `path`, in order; nothing for what stays as it is."""
        steps = [self._disk_step(path), self.move, self._partition_step(), self._inside_step()]
        return [step for step in (steps if self.verb == "grow" else reversed(steps)) if step]

    def _disk_step(self, path: str) -> str:
        before, after = self.before.disk, self.after.disk if self.after else self.disk
        if after is None:
            return f"cut {path} behind it"
        if after > before:
            return f"grow {path} from {format_size(before)} to {format_size(after)}"
        if after < before:
            told = _told(after, least=self.disk is None)
            return f"cut {path} from {format_size(before)} to {told}"
        return ""

    def _partition_step(self) -> str:
        if self.subject.partition is None:
            return ""
        after = self.after.partition if self.after else None
        return self._step(f"partition {self.subject.number}", self.before.partition, after)

    def _inside_step(self) -> str:
        if self.subject.filesystem is None:
            return ""
        after = self.after.filesystem if self.after else None
        return self._step(f"the {self.subject.kind} file system", self.before.filesystem, after)

    def _step(self, what: str, before: int | None, after: int | None) -> str:
        if self.after is None:
            return f"{self.verb} {what} as far as it goes"
        if after is None or after == before:
            return ""
        least = self.verb == "shrink" and self.size is None
        return f"{self.verb} {what} to {_told(after, least=least)}"

    def _whole_units(self, disk: int) -> int:
        """That many bytes or the next that a disk can have; never more than it has."""
        return min(rounded_up(disk, self.unit), self.before.disk)

    def _partition(self, keeps: int, disk: int) -> int | None:
        """Bytes of the partition, for a file system that keeps so many: whole MiB where there is
        room, and never more than it has."""
        subject = self.subject
        if subject.partition is None or subject.table is None:
            return None
        room = subject.table.room(subject.partition.number, disk) - subject.start
        return min(max(keeps, min(rounded_up(keeps), room)), subject.partition.size)


def _told(after: int, *, least: bool) -> str:
    """A size that something gets. `least`: it gets as small as it goes, which may be less."""
    less = " or less" if least else ""
    return f"{after} bytes ({format_size(after)}){less}"


def growth(subject: Subject, present: int, disk: int, size: int | None) -> ResizePlan:
    """The plan for a file system on a disk of `present` bytes, which is to have `disk`, to grow to
    `size` bytes, or (None) as far as there is room. Raises as `Subject.require_growth`."""
    subject.require_growth(size, disk)
    before = _sizes(subject, present)
    target = max(subject.room(disk), subject.present or 0) if size is None else size
    partition = None if before.partition is None else max(target, before.partition)
    if subject.table and subject.number is not None and partition is not None:
        subject.table.resized(subject.number, partition, disk)  # or it raises
    return ResizePlan("grow", subject, before, Sizes(disk, partition, target), disk, size)


def shrinking(
    subject: Subject, present: int, disk: int | None, size: int | None, unit: int = 1
) -> ResizePlan:
    """The plan for a file system to shrink to `size` bytes, or (None) as far as it goes, and the
    disk from `present` to `disk` bytes, or (None) to the smallest. Raises as
    `Subject.require_fit`."""
    subject.require_fit(size, present if disk is None else disk)
    plan = ResizePlan("shrink", subject, _sizes(subject, present), None, disk, size, unit)
    target = subject.minimum if size is None else size
    if target is None:
        return plan
    known = target if subject.present is None else min(target, subject.present)
    return replace(plan, after=plan.shrunk(known))


def cut(subject: Subject, present: int, disk: int) -> ResizePlan:
    """The plan for a disk to get smaller and nothing on it to change."""
    before = _sizes(subject, present)
    after = replace(before, disk=disk)
    return ResizePlan("shrink", subject, before, after, disk, before.filesystem)


def _sizes(subject: Subject, present: int) -> Sizes:
    partition = subject.partition.size if subject.partition else None
    return Sizes(present, partition, subject.present)
