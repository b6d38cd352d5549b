"""Images in memory: the smallest backend that keeps the whole contract.

It is what the contract is read against, and what transfers are tested with where no file
system should have a say. Its images are gone with the store.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from virtstore.backends.base import (
    Capabilities,
    Holds,
    Identity,
    Image,
    Look,
    Stored,
    Version,
    nothing,
)
from virtstore.errors import Exists, InUse, NoSpace, NotFound
from virtstore.model import Extent


class MemoryImage:
    """Bytes that are read and written at offsets."""

    def __init__(self, contents: bytearray) -> None:
        self.contents = contents
        self.identity: Identity = (0, id(contents))

    @property
    def version(self) -> Version:
        return Version(self.identity)

    @property
    def size(self) -> int:
        return len(self.contents)

    @property
    def allocated(self) -> int:
        return len(self.contents)

    def read_whole(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise OSError(errno.EIO, "read behind the end")
        return self.read_at(offset, length)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.contents[offset : offset + length])

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.contents[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.contents[offset : offset + length] = bytes(length)

    def extents(self) -> Iterator[Extent]:
        if self.contents:
            yield Extent(0, self.size, "unknown")

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        return []

    def let_go(self, offset: int, length: int) -> None:
        """It is all there is."""

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        """There is no disk."""

    def flush(self) -> None:
        """Nothing survives anyway."""

    def check(self) -> None:
        """Memory does not go away."""

    def lend(self) -> AbstractContextManager[int]:
        raise OSError(errno.ENOTSUP, "an image in memory has no descriptor")

    def __enter__(self) -> MemoryImage:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


class MemoryDraft(MemoryImage):
    def __init__(self, store: Memory, name: str, contents: bytearray) -> None:
        super().__init__(contents)
        self.holds: Holds = "kept" if contents.strip(b"\0") else "zeros"
        self.whole = False
        self._store = store
        self._name = name

    def finish(self) -> None:
        self.whole = True

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if self._name in self._store.images and not overwrite:
            raise FileExistsError(errno.EEXIST, "File exists", self._name)
        for held in (self._store.partials, self._store.reworked):
            if held.get(self._name) is self.contents:
                self._store.images[self._name] = held.pop(self._name)
        if overwrite:
            self._store.reworked.pop(self._name, None)
        self.whole = False

    def cut(self, length: int) -> None:
        del self.contents[length:]

    def scratch(self) -> MemoryImage:
        return MemoryImage(bytearray())

    def __enter__(self) -> MemoryDraft:
        return self


class Memory:
    """A store of at most `capacity` bytes."""

    capabilities: Final = Capabilities(image_type="file", granularity=1, archives=True)

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.images: dict[str, bytearray] = {}
        self.partials: dict[str, bytearray] = {}
        self.reworked: dict[str, bytearray] = {}

    def close(self) -> None:
        """Nothing to close."""

    def refresh(self) -> None:
        """Nothing is remembered."""

    def identity(self, name: str) -> str:
        return f"memory:{id(self)}/{name}"

    def interrupted(self) -> list[str]:
        return []

    def mend(self, name: str) -> None:
        """There is never anything to mend."""

    def require_new_names(self) -> None:
        """They can always be given."""

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

    def find(self, name: str) -> Stored | None:
        found = sorted(
            (s for s in self.scan() if s.name == name),
            key=lambda s: (s.state, s.was_image != "yes"),
        )
        return found[0] if found else None

    def open(self, name: str, *, writable: bool = False, partial: bool = False) -> MemoryImage:
        left = self.reworked if name in self.reworked else self.partials
        held = left if partial else self.images
        if name not in held:
            raise NotFound("no such image")
        return MemoryImage(held[name])

    def archive(self, name: str) -> MemoryDraft:
        return MemoryDraft(self, name, self.partials.setdefault(name, bytearray()))

    def require_name(self, name: str) -> None:
        """Whatever it is."""

    def require_attributes(self, name: str, like: str | None = None) -> None:
        """Images here have none."""

    def draft(self, name: str, size: int, thin: str | None = None) -> MemoryDraft:
        contents = self.partials.setdefault(name, bytearray())
        del contents[size:]
        try:
            self._extend(contents, size)
        except NoSpace:
            del self.partials[name]
            raise
        return MemoryDraft(self, name, contents)

    def rework(
        self, name: str, before: Callable[[Image], None] = lambda image: None
    ) -> MemoryDraft:
        if name in self.images and (name in self.partials or name in self.reworked):
            raise InUse("a partial image is beside this one; remove it with 'virtstore clean'")
        if name in self.images:
            self.reworked[name] = self.images.pop(name)
        elif name in self.partials and name not in self.reworked:
            self.reworked[name] = self.partials.pop(name)
        if name not in self.reworked:
            raise NotFound("no such image")
        return MemoryDraft(self, name, self.reworked[name])

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        if self.images.pop(name, None) is None:
            raise NotFound("no such image")

    def discard(self, name: str, *, was_image: bool = False) -> None:
        self.partials.pop(name, None)
        if was_image:
            self.reworked.pop(name, None)

    def grow(self, name: str, size: int, *, in_use: bool = False, between: Look = nothing) -> None:
        self._extend(self.open(name).contents, size)

    def unzeroed(self, name: str) -> int | None:
        return None  # there is nobody else's data here

    def shrink(self, name: str, size: int) -> None:
        del self.open(name).contents[size:]

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        if new in self.images:
            raise Exists(f"{new} is there already")
        self.images[new] = bytearray(self.open(name).contents)

    def guarded(self, name: str, end: int, contents: str) -> AbstractContextManager[str]:
        return nullcontext(name)

    def remnants(self, name: str, contents: str) -> int:
        return 0

    def forget_remnants(self, name: str) -> None:
        """Nothing here outlives a crash."""

    def frozen(self, name: str) -> MemoryImage:
        return MemoryImage(bytearray(self.open(name).contents))

    def _extend(self, contents: bytearray, size: int) -> None:
        more = size - len(contents)
        if more > self.free():
            raise NoSpace(f"{more} more bytes are needed and {self.free()} are free")
        contents.extend(bytes(more))
