"""The volumes of a group, and the steps that changes are made of.

A step is one LVM command, which is all or nothing. What lies between two steps is marked
(marks.py), and it is the callers, volume_group.py and mending.py, who see to that.

Quirks: `lvremove --yes` of a thick volume removes its snapshots along with it, and those in
thin pools whose external origin it is. lvremove and `lvconvert --splitsnapshot` wait five
seconds for an open volume, and then say that it is in use. Splitting is possible whether
the snapshot is active, invalid, or not, and while its origin is in use.

Of a thin volume, lvcreate and lvremove are not quite all or nothing: each writes into LVM's
metadata what the kernel is to do, has it done, and crosses it out. After a crash in between
LVM has a volume that the pool has not ("No data available"), or no longer one that still
takes room there. Neither activating the pool nor `lvchange --refresh` of it does what was
written down; the next lvcreate or lvremove in that pool does, also in a full one.

Sources: lvcreate(8), lvrename(8), lvconvert(8), lvmthin(7). Host tools needed: lvm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from msgspec.structs import replace

from virtstore.backends.lvm import report
from virtstore.backends.lvm.command import lvm
from virtstore.backends.lvm.report import Group, Report, Volume
from virtstore.errors import Denied, Error, InUse, NoSpace, NotFound
from virtstore.units import format_apart

#: Seconds for which udev may have a volume open that was just closed.
_UDEV: Final = 2.0

_Opened = TypeVar("_Opened")


class Volumes:
    """The volumes of a group. LVM is asked once, and again after `refresh` and after each change of
    ours, but for changes of names and tags, whose outcome is known."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._known: Report | None = None
        self._activated: set[str] = set()

    def refresh(self) -> None:
        self._known = None

    def report(self) -> Report:
        if self._known is None:
            self._known = report.report(self.group)
        return self._known

    @property
    def room(self) -> Group:
        return self.report().group

    def all(self) -> tuple[Volume, ...]:
        return self.report().volumes

    def find(self, name: str) -> Volume | None:
        """The volume of that name; None where there is none. Raises `Denied` for one that is
        neither an image nor a part of one's making."""
        found = next((v for v in self.all() if v.name == name), None)
        if found and not found.type:
            raise Denied("it is a thin pool or a part of another volume, not an image")
        return found

    def get(self, name: str) -> Volume:
        """The volume of that name. Raises `NotFound`."""
        found = self.find(name)
        if found is None:
            raise NotFound("no such image")
        return found

    def fresh(self, name: str) -> Volume:
        """The volume of that name as it is now. Raises `NotFound`."""
        self.refresh()
        return self.get(name)

    def activated(self, name: str) -> Volume:
        volume = self.get(name)
        if not volume.active:
            inactive = {v.uuid for v in self.all() if v.name in (name, volume.origin)}
            inactive -= {v.uuid for v in self.all() if v.active}
            # -K: also one that is marked to be skipped, as thin snapshots are.
            self.change("lvchange", "-ay", "-K", f"{self.group}/{name}")
            self._activated |= inactive  # a thick snapshot's origin along with it
            volume = self.get(name)
        return volume

    def opened(self, name: str, open_it: Callable[[Volume], _Opened]) -> _Opened:
        """What `open_it` makes of a volume, once that is active. Another agent may have deactivated
        it since LVM was asked: then LVM is asked once more."""
        try:
            return open_it(self.activated(name))
        except FileNotFoundError:
            self.refresh()
            return open_it(self.activated(name))

    def give_back(self) -> None:
        """Deactivate what was activated here, but for what somebody has opened since. Raises
        nothing: what stays active does no harm."""
        if self._activated:
            self.refresh()  # no lock is held any more: its name may be another volume's by now
        for uuid in self._activated:
            with suppress(Error, OSError):
                self._deactivate(uuid)
        self._activated.clear()

    def _deactivate(self, uuid: str) -> None:
        deadline = time.monotonic() + _UDEV
        while volume := next((v for v in self.all() if v.uuid == uuid and v.active), None):
            if not volume.open:
                return self.change("lvchange", "-an", f"{self.group}/{volume.name}")
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
            self.refresh()
        return None

    def dependents(self, name: str) -> list[str]:
        """The snapshots that would be lost with a volume. Of a thick volume all, also those in a
        thin pool, which read from it what they have not of their own; of a thin volume only those
        that have an exception store."""
        thick = self.get(name).pool is None
        return [v.name for v in self.all() if v.origin == name and (thick or v.pool is None)]

    def rounded(self, size: int) -> int:
        """A size in whole extents. LVM would round too, but takes no part of a sector."""
        extent = self.room.extent_size
        return -(-size // extent) * extent

    def create(self, name: str, size: int, thin: str | None, *tags: str) -> None:
        """A volume of `size` bytes, rounded; `thin`: in that pool. Raises `NoSpace`."""
        if thin:
            self._refuse_what_the_pool_cannot_hold(thin, size)
            where = ("-V", f"{self.rounded(size)}b", "--thinpool", thin)
        else:
            self._refuse_what_does_not_fit(size)
            # Signatures are wiped before anybody (udev, mdadm) can act upon old data.
            where = ("-L", f"{self.rounded(size)}b", "-Wy", "-Zy")
        self.change("lvcreate", *where, *_adding(tags), "-n", name, self.group)

    def snapshot(self, name: str, new: str, size: int | None, *tags: str) -> None:
        """A snapshot of a volume, of its own kind; `size`: of a thick one's exception store."""
        origin = self.get(name)
        room = ("-kn",) if origin.pool else ("-L", f"{self._exception_store(origin, size)}b")
        self.change("lvcreate", "-s", *room, *_adding(tags), "-n", new, f"{self.group}/{name}")

    def behind(self) -> list[Volume]:
        """Thin pools in which the kernel has not yet done what LVM last wrote down."""
        pools = [v for v in self.all() if v.transaction is not None]
        return [pool for pool in pools if report.is_behind(pool)]

    def make_anything(self, pool: str, name: str, *tags: str) -> None:
        """Make the smallest volume in a pool, however full the pool is."""
        where = ("-V", f"{self.room.extent_size}b", "--thinpool", pool)
        self.change("lvcreate", *where, *_adding(tags), "-n", name, self.group)

    def extend(self, name: str, size: int) -> None:
        self.change("lvextend", "-L", f"{size}b", f"{self.group}/{name}")

    def reduce(self, name: str, size: int) -> None:
        self.change("lvreduce", "--force", "-L", f"{size}b", f"{self.group}/{name}")

    def tag(self, name: str, *tags: str) -> None:
        self.retag(name, (), tags)

    def untag(self, name: str, *tags: str) -> None:
        self.retag(name, tags, ())

    def retag(self, name: str, old: Collection[str], new: Collection[str]) -> None:
        taking = [word for tag in old for word in ("--deltag", tag)]

        def tagged(volume: Volume) -> Volume:
            tags = (volume.tags - set(old)) | set(new)
            return replace(volume, tags=tags) if volume.name == name else volume

        words = (*taking, *_adding(new), f"{self.group}/{name}")
        self.change("lvchange", *words, outcome=tagged)

    def rename(self, old: str, new: str) -> None:
        def renamed(volume: Volume) -> Volume:
            name, origin = (new if each == old else each for each in (volume.name, volume.origin))
            return replace(volume, name=name, origin=origin)

        self.change("lvrename", self.group, old, new, outcome=renamed)

    def split(self, name: str) -> None:
        """Make a thick snapshot's exception store a volume of its own, of the same name."""
        self.change("lvconvert", "--splitsnapshot", f"{self.group}/{name}")

    def remove(self, name: str) -> None:
        """Remove a volume. Raises `InUse` where that would remove another one, too."""
        if dependents := self.dependents(name):
            raise InUse(
                f"snapshots depend on it ({', '.join(dependents)}); --with-snapshots removes"
                " them too"
            )
        self.change("lvremove", f"{self.group}/{name}")

    def change(self, *command: str, outcome: Callable[[Volume], Volume] | None = None) -> None:
        """Run one LVM command. `outcome` says what becomes of each volume. Without it LVM is asked
        anew afterwards."""
        known, self._known = self._known, None
        lvm(*command)
        if known and outcome:
            self._known = replace(known, volumes=tuple(map(outcome, known.volumes)))

    def _refuse_what_does_not_fit(self, size: int) -> None:
        if self.rounded(size) > self.room.free:
            needed, free = format_apart(self.rounded(size), self.room.free)
            raise NoSpace(f"{needed} are needed and {free} of the volume group are free")

    def _refuse_what_the_pool_cannot_hold(self, pool: str, size: int) -> None:
        """Raises `NoSpace` for a volume that a pool has no room for, where the pool does not zero.
        There a volume is written whole, and in a full pool writers wait for a minute and then fail
        (lvmthin(7), "Data space exhaustion")."""
        pools = {v.name: v for v in self.all() if v.transaction is not None}
        if (found := pools.get(pool.removeprefix(f"{self.group}/"))) is None:
            those = f"; there is {' and '.join(pools)}" if pools else ", and no other"
            raise NotFound(f"there is no thin pool {pool!r} in {self.group}{those}")
        if not found.zeroes and self.rounded(size) > (free := found.size - found.allocated):
            needed, has = format_apart(self.rounded(size), free)
            raise NoSpace(
                f"{needed} are needed and {has} of the"
                f" pool {pool} are free; it does not zero, so a new volume is written whole"
            )

    def _exception_store(self, origin: Volume, size: int | None) -> int:
        """The size of a thick snapshot's exception store: as large as the origin where there is
        room, so that it cannot run full."""
        if size is not None:
            return self.rounded(size)
        if self.room.free < self.room.extent_size:
            raise NoSpace("a snapshot needs free space in the volume group, and there is none")
        return min(self._whole_exception_store(origin), self.room.free)

    def has_room_for_a_whole_snapshot(self, origin: Volume) -> bool:
        """Whether a thick snapshot's exception store could hold all of its origin."""
        return self.room.free >= self._whole_exception_store(origin)

    def _whole_exception_store(self, origin: Volume) -> int:
        # LVM allows more than the origin's size, for what the store has to say of itself.
        return self.rounded(origin.size + origin.size // 256 + self.room.extent_size)


def _adding(tags: Iterable[str]) -> list[str]:
    return [word for tag in tags for word in ("--addtag", tag)]
