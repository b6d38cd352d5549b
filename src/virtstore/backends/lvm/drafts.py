"""Volumes that have more to them than their contents: drafts, and a copy's snapshot."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX, Holds, ImageDraft, PageCache
from virtstore.backends.descriptor import DescriptorCache
from virtstore.backends.guard import Guard
from virtstore.backends.in_place import RENAMED, InPlace
from virtstore.backends.lvm import names
from virtstore.backends.lvm.report import Volume
from virtstore.backends.lvm.volume import VolumeImage
from virtstore.errors import InUse, NoSpace


class Group(Protocol):
    """What these need of their volume group (see lvm.VolumeGroup)."""

    name: str

    def publish(self, name: str, *, overwrite: bool) -> None: ...

    def hide(self, name: str) -> None: ...

    def show(self, name: str) -> None: ...

    def drop(self, name: str) -> None: ...

    def note_losses(self, name: str, note: str) -> bool: ...

    def lost(self, snapshot: Volume) -> bool: ...

    def pool_is_full(self, volume: Volume) -> bool: ...


class _DraftCache(DescriptorCache):
    """A page cache whose failures `telling` turns into better errors."""

    def __init__(self, fd: int, telling: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(fd)
        self._telling = telling

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        with self._telling():
            super().write_out(offset, length, wait=wait)


class VolumeDraft(VolumeImage, ImageDraft):
    """A volume under its temporary name."""

    def __init__(self, group: Group, name: str, volume: Volume, holds: Holds) -> None:
        super().__init__(volume, writable=True, exclusive=True)
        self.holds: Holds = holds
        self.whole = False
        self._group = group
        self._name = name

    def zero(self, offset: int, length: int) -> None:
        with self._telling_a_full_pool():
            super().zero(offset, length)

    @property
    def cache(self) -> PageCache:
        return _DraftCache(self._fd, self._telling_a_full_pool)

    def flush(self) -> None:
        with self._telling_a_full_pool():
            super().flush()

    def finish(self) -> None:
        self.flush()
        self.whole = True

    @property
    def _called(self) -> str:
        """The name that the volume has now."""
        return self._name + PARTIAL_SUFFIX

    def note_losses(self, note: str) -> bool:
        return self._group.note_losses(self._called, note)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        self._group.publish(self._name, overwrite=overwrite)
        self.whole = False

    @contextmanager
    def _telling_a_full_pool(self) -> Iterator[None]:
        """Raises `NoSpace` in place of EIO where the thin pool is full. The kernel says EIO after a
        minute, in which the pool may be extended, or at once (lvmthin(7), "Data space
        exhaustion")."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.EIO, errno.ENOSPC) and self.volume.pool
            if not full or not self._group.pool_is_full(self.volume):
                raise
            raise NoSpace(f"the thin pool {self.volume.pool} is full") from None


class ReworkedVolume(VolumeDraft):
    """A volume that is changed in place."""

    def __init__(self, group: Group, name: str, volume: Volume) -> None:
        super().__init__(group, name, volume, "kept")
        self.in_place = InPlace(self, lambda: group.hide(name), self._require_named)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.in_place.lose_name()
        super().write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.in_place.lose_name()
        super().zero(offset, length)

    @property
    def _called(self) -> str:
        return self._name if self.in_place.named else self._name + REWORK_SUFFIX

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if not self.in_place.named:
            self._group.show(self._name)
        self.whole = False

    def _require_named(self) -> None:
        if self.device_name != names.of_device(self._group.name, self._name):
            raise InUse(RENAMED)


class Snapshot(VolumeImage):
    """A snapshot that is removed when it is closed, and before that by its guard or the next
    agent should this process not live to do it."""

    def __init__(self, group: Group, volume: Volume, watch: Guard) -> None:
        super().__init__(volume)
        self._group = group
        self._watch = watch

    def check(self) -> None:
        """Raises `NoSpace` if what the snapshot held has been lost."""
        if self._group.lost(self.volume):
            raise NoSpace(
                "the snapshot's exception store ran full while it was read: more of the origin"
                " changed than there was free space in the volume group for"
            )

    def close(self) -> None:
        super().close()
        self._group.drop(self.volume.name)
        self._watch.dismiss()
