"""Which file system of a disk files are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from virtstore.errors import NotFound, Unsupported, UsageError
from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.table import is_container
from virtstore.filesystems.reading import lvm, marks
from virtstore.filesystems.reading.base import Disk, Window
from virtstore.filesystems.reading.registry import READABLE, why_not
from virtstore.units import format_size


class Place(msgspec.Struct, frozen=True):
    """What has a file system, or might: the disk, its partition `number`, or a logical `volume` in
    it. `type`: blkid's name; `trouble`: why it cannot be read at all."""

    type: str | None
    disk: Disk
    start: int
    size: int
    number: int | None = None
    volume: str | None = None
    trouble: str = ""

    @property
    def readable(self) -> bool:
        return not self.trouble and self.type in READABLE

    @property
    def described(self) -> str:
        what = f"volume {self.volume}" if self.volume else f"partition {self.number}"
        return f"{what} ({self.type or 'nothing known'}, {format_size(self.size)})"

    @property
    def asked_for(self) -> str:
        """The option that names it."""
        option = f"--volume {self.volume}" if self.volume else f"--partition {self.number}"
        return f"{option} ({self.type}, {format_size(self.size)})"


class Chosen(msgspec.Struct, frozen=True):
    """A place whose file system is of blkid's `type`, and what there is to say of the choice."""

    type: str
    place: Place
    notes: tuple[str, ...] = ()


def choose(
    contents: Contents,
    disk: Disk,
    number: int | None,
    volume: str | None,
    windows: Mapping[str, int],
) -> Chosen:
    """Partition `number`, the logical `volume` (NAME or VG/NAME), or without them the largest file
    system that can be read. `windows`: how a disk is read. Raises `NotFound`, `UsageError`,
    `Unsupported`."""
    places = list(_places(contents, disk))
    inside = list(_inside(places, windows))
    if number is not None:
        places = _in_partition(places, number)
        inside = inside if places[0].type == lvm.TYPE else []
    if volume is not None:
        return _checked(_called(inside, volume))
    there = [*places, *inside]
    if readable := [each for each in there if each.readable]:
        largest = max(readable, key=lambda each: each.size)
        return _checked(largest, _others(readable, largest))
    raise Unsupported(_none(there, contents))


def _places(contents: Contents, disk: Disk) -> Iterator[Place]:
    """The partitions; of a disk without any, the whole."""
    partitions = [each for each in contents.partitions if not is_container(each)]
    for each in partitions:
        kind = each.filesystem.type if each.filesystem else None
        yield Place(kind, disk, each.start, each.size, each.number)
    if not partitions:
        yield Place(contents.filesystem.type if contents.filesystem else None, disk, 0, disk.size)


def _in_partition(places: list[Place], number: int) -> list[Place]:
    if places[0].number is None:
        raise UsageError("it has no partitions; leave --partition out")
    for each in places:
        if each.number == number:
            return [each]
    there = ", ".join(str(each.number) for each in places)
    raise NotFound(f"it has no partition {number}; it has {there}")


def _inside(places: Sequence[Place], windows: Mapping[str, int]) -> Iterator[Place]:
    """The logical volumes."""
    members = [
        Window(each.disk, each.start, each.size, **windows)
        for each in places
        if each.type == lvm.TYPE
    ]
    for volume in lvm.volumes(members):
        kind = None if volume.trouble else marks.kind_of(Window(volume, 0, volume.size))
        yield Place(kind, volume, 0, volume.size, None, volume.name, volume.trouble)


def _called(places: Sequence[Place], name: str) -> Place:
    for each in places:
        if each.volume and name in (each.volume, each.volume.rpartition("/")[2]):
            return each
    there = ", ".join(each.volume for each in places if each.volume)
    raise NotFound(
        f"there is no logical volume {name} in it; {f'it has {there}' if there else 'it has none'}"
    )


def _checked(place: Place, notes: tuple[str, ...] = ()) -> Chosen:
    if place.trouble:
        raise Unsupported(f"no files can be read from volume {place.volume}: {place.trouble}")
    if place.type is None:
        raise Unsupported(f"no file system was recognised in {place.described}")
    if place.type not in READABLE:
        raise Unsupported(why_not(place.type))
    return Chosen(place.type, place, notes)


def _others(readable: Sequence[Place], chosen: Place) -> tuple[str, ...]:
    """The note that there are more to choose from, if there are."""
    others = [each.asked_for for each in readable if each is not chosen]
    if not others:
        return ()
    return (f"this is {chosen.described}; there is more: {', '.join(others)}",)


def _none(places: Sequence[Place], contents: Contents) -> str:
    known = [each for each in places if each.type and each.type != lvm.TYPE]
    if troubled := [each for each in places if each.trouble]:
        told = ", ".join(f"volume {each.volume}: {each.trouble}" for each in troubled)
        return f"no files can be read from it ({told})"
    if not known:
        why = f" ({'; '.join(contents.warnings)})" if contents.warnings else ""
        lvm_too = any(each.type == lvm.TYPE for each in places)
        what = "no logical volume can be read in it" if lvm_too else "no file system was recognised"
        return f"{what}{why}, so there are no files"
    largest = max(known, key=lambda each: each.size)
    if largest.number is None and largest.volume is None:
        return why_not(str(largest.type))
    told = ", ".join(each.described for each in known)
    return f"there is {told}; of the largest: {why_not(str(largest.type))}"
