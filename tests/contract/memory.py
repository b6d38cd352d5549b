"""Images in memory: the smallest backend that keeps the whole contract.

It is what the contract is read against, and what transfers are tested with where no file
system should have a say. Its images are gone with the store. `copy.copy` of a store is another
one of the same images, as another agent has it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.backends.base import (
    Capabilities,
    Changed,
    Holds,
    Identity,
    Image,
    ImageDraft,
    Look,
    Moment,
    ResumableSink,
    Store,
    Stored,
    Version,
    nothing,
)
from virtstore.errors import Exists, InUse, NoSpace, NotFound, Unsupported, UsageError
from virtstore.undo import undone_by

#: Bytes of which it is known whether they have changed.
_UNIT: Final = 512
#: Characters that a name has at most.
_LONGEST: Final = 100
#: What others left where new space is, until that is zeroed.
_OLD_DATA: Final = b"\xee"


class Contents(bytearray):
    """What an image holds, and the note that it has."""

    note = ""


class MemoryImage(Image):
    """Bytes that are read and written at offsets."""

    def __init__(self, contents: Contents, *, writable: bool = True) -> None:
        self.contents = contents
        self._writable = writable

    @property
    def identity(self) -> Identity:
        return 0, id(self.contents)

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def size(self) -> int:
        return len(self.contents)

    @property
    def allocated(self) -> int:
        return len(self.contents)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.contents[offset : offset + length])

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if not self._writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.contents[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.write_at(offset, bytes(length))

    @contextmanager
    def lend(self) -> Iterator[int]:
        """A file of the contents. What is written to it is the image's when it is given back."""
        with os.fdopen(os.memfd_create("image"), "w+b", buffering=0) as file:
            file.write(self.contents)
            yield file.fileno()
            if self._writable:
                file.seek(0)
                self.contents[:] = file.read()

    def close(self) -> None:
        """Nothing to close."""


class MemoryMoment(MemoryImage, Moment):
    """A copy of an image; the kept ones of the same image are in `kept`."""

    def __init__(self, contents: Contents, kept: dict[str, bytes]) -> None:
        super().__init__(Contents(contents), writable=False)
        self._kept = kept

    def changed_since(self, kept: str) -> Changed | None:
        if (old := self._kept.get(kept)) is None:
            return None
        both = range(0, min(len(old), self.size), _UNIT)
        units = [at for at in both if old[at : at + _UNIT] != self.contents[at : at + _UNIT]]
        return Changed(len(old), tuple((at, _UNIT) for at in units))

    def keep(self, kept: str, beginning: str) -> None:
        self._kept.setdefault(kept, bytes(self.contents))
        for name in [*self._kept]:
            if name.startswith(beginning) and name != kept:
                del self._kept[name]


class MemoryDraft(MemoryImage, ImageDraft):
    def __init__(self, store: Memory, name: str, contents: Contents) -> None:
        super().__init__(contents)
        self.holds: Holds = "kept" if contents.strip(b"\0") else "zeros"
        self.whole = False
        self._store = store
        self._name = name

    def finish(self) -> None:
        self.whole = True

    def note_losses(self, note: str) -> bool:
        self.contents.note = note
        return True

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if self._name in self._store.images and not overwrite:
            raise FileExistsError(errno.EEXIST, "File exists", self._name)
        self._store.images[self._name] = self._store.partials.pop(self._name)
        if overwrite:
            self._store.reworked.pop(self._name, None)
        self.whole = False


class MemoryArchive(MemoryDraft, ResumableSink):
    def append(self, data: bytes) -> None:
        self.contents += data

    def cut(self, length: int) -> None:
        del self.contents[length:]

    def scratch(self) -> MemoryImage:
        return MemoryImage(Contents())

    def abandon(self) -> None:
        self._store.discard(self._name)


class ReworkedMemory(MemoryDraft):
    """An image that is its own draft."""

    def __init__(
        self, store: Memory, name: str, contents: Contents, before: Callable[[Image], None]
    ) -> None:
        super().__init__(store, name, contents)
        self.holds = "kept"
        self._before = before
        self._named = self._has_its_name()
        self._hiding = threading.Lock()  # several threads write

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        with self._hiding:
            if self._named:
                self._before(self)
                if not self._has_its_name():
                    raise InUse("somebody put another in its place, or took it away")
                self._store.reworked[self._name] = self._store.images.pop(self._name)
                self._named = False
        super().write_at(offset, data)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if not self._has_its_name():
            if self._name in self._store.images:
                raise FileExistsError(errno.EEXIST, "File exists", self._name)
            self._store.images[self._name] = self._store.reworked.pop(self._name)
        self.whole = False

    def _has_its_name(self) -> bool:
        return self._store.images.get(self._name) is self.contents


class Memory(Store):
    """A store of at most `capacity` bytes."""

    capabilities = Capabilities(archives=True, keeps_moments=True)

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.images: dict[str, Contents] = {}
        self.partials: dict[str, Contents] = {}
        self.reworked: dict[str, Contents] = {}
        #: From which byte on an image that grew while it was in use may not be zeroed.
        self.not_zeroed: dict[str, int] = {}
        #: The moments of each image that were kept.
        self.kept: dict[str, dict[str, bytes]] = {}
        #: What an image held before a guarded change that nobody has ended or undone.
        self.before_change: dict[str, bytes] = {}

    def close(self) -> None:
        """Nothing to close."""

    def identity(self, name: str) -> str:
        return f"memory:{id(self.images)}/{name}"

    def interrupted(self) -> list[str]:
        return sorted(self.before_change)

    def mend(self, name: str) -> None:
        self._undo(name)

    def free(self) -> int:
        held = (*self.images.values(), *self.partials.values(), *self.reworked.values())
        return self.capacity - sum(map(len, held))

    def scan(self) -> Iterator[Stored]:
        for name, contents in self.images.items():
            size = len(contents)
            yield Stored(name, "file", "complete", size, size, (0, id(contents)))
        for name, contents in self.partials.items():
            size = len(contents)
            yield Stored(name, "file", "partial", size, size, (0, id(contents)))
        for name, contents in self.reworked.items():
            size, who = len(contents), (0, id(contents))
            yield Stored(name, "file", "partial", size, size, who, was_image="yes")

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> MemoryImage:
        left = self.reworked if name in self.reworked else self.partials
        held = left if partial else self.images
        if name not in held:
            raise NotFound("no such image")
        return MemoryImage(held[name], writable=writable)

    def archive(self, name: str) -> MemoryArchive:
        return MemoryArchive(self, name, self.partials.setdefault(name, Contents()))

    def require_name(self, name: str) -> None:
        if len(name) > _LONGEST:
            raise UsageError(f"it has {len(name)} characters, and {_LONGEST} are the most")

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> MemoryDraft:
        if thin:
            raise Unsupported("there are no thin pools in memory")
        if sparse:
            raise Unsupported("all bytes take room in memory")
        contents = self.partials.setdefault(name, Contents())
        del contents[size:]
        try:
            self._extend(contents, size, b"\0")
        except NoSpace:
            del self.partials[name]
            raise
        return MemoryDraft(self, name, contents)

    def rework(
        self, name: str, before: Callable[[Image], None] = lambda image: None
    ) -> ReworkedMemory:
        if name in self.images and (name in self.partials or name in self.reworked):
            raise InUse("a partial image is beside this one; remove it with 'virtstore clean'")
        if name not in self.images and name not in self.reworked:
            if name not in self.partials:
                raise NotFound("no such image")
            self.reworked[name] = self.partials.pop(name)
        held = self.images if name in self.images else self.reworked
        return ReworkedMemory(self, name, held[name], before)

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        if self.kept.get(name) and not with_snapshots:
            raise InUse("moments of it were kept")
        if self.images.pop(name, None) is None:
            raise NotFound("no such image")
        self.not_zeroed.pop(name, None)
        self.kept.pop(name, None)

    def rename(self, name: str, new: str) -> None:
        self.open(name)
        if new in self.images:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self.images[new] = self.images.pop(name)
        self.kept[new] = self.kept.pop(name, {})
        if name in self.not_zeroed:
            self.not_zeroed[new] = self.not_zeroed.pop(name)

    def discard(self, name: str, *, was_image: bool = False) -> None:
        self.partials.pop(name, None)
        if was_image:
            self.reworked.pop(name, None)

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        if sparse:
            raise Unsupported("all bytes take room in memory")
        contents = self.open(name).contents
        old, start = len(contents), self.unzeroed(name)
        self._extend(contents, size, _OLD_DATA)
        self.not_zeroed[name] = old if start is None else start
        try:
            between()
        except BaseException:
            if not in_use:
                self.shrink(name, old)
            raise
        start = self.not_zeroed.pop(name)
        contents[start:] = bytes(len(contents) - start)

    def unzeroed(self, name: str) -> int | None:
        return self.not_zeroed.get(name)

    def losses(self, name: str) -> str:
        return self.open(name).contents.note if name in self.images else ""

    def note_losses(self, name: str, note: str) -> bool:
        self.open(name).contents.note = note
        return True

    def shrink(self, name: str, size: int) -> None:
        del self.open(name).contents[size:]
        if size <= self.not_zeroed.get(name, 0):
            self.not_zeroed.pop(name, None)

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        if new in self.images:
            raise Exists(f"{new} is there already")
        self.images[new] = Contents(self.open(name).contents)
        self.images[new].note = self.losses(name)

    @contextmanager
    def guarded(self, name: str, end: int, contents: str) -> Iterator[str]:
        self.before_change[name] = bytes(self.open(name).contents)
        with undone_by(lambda: self._undo(name)):  # after `LeftRunning`, `mend` does it
            yield name
        del self.before_change[name]

    def frozen(self, name: str) -> MemoryImage:
        return MemoryImage(Contents(self.open(name).contents), writable=False)

    def moment(self, name: str) -> MemoryMoment:
        return MemoryMoment(self.open(name).contents, self.kept.setdefault(name, {}))

    def _undo(self, name: str) -> None:
        if name in self.before_change:
            self.images[name][:] = self.before_change.pop(name)

    def _extend(self, contents: Contents, size: int, filling: bytes) -> None:
        more = size - len(contents)
        if more > self.free():
            raise NoSpace(f"{more} more bytes are needed and {self.free()} are free")
        contents.extend(filling * more)
