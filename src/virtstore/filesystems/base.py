"""What a file system can do: the contract that every file system keeps.

A file system works on a device, which is an open descriptor and a size, never on a
backend or a path: what was checked and locked is what its tools change. What it can do
is data (`Capabilities`); whoever wants to grow asks that first, and `storage-info` shows
it. Whether the image is in use, and whether it is large enough to begin with, is the
caller's to settle: a file system looks at nothing outside its device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from virtstore.errors import Error

#: Seconds for a check, which reads all metadata: minutes for terabytes, more on a slow disk.
CHECK_TIMEOUT: Final = 6 * 3600
#: Seconds for a change. To stop a tool in the middle of one spoils the image, and moving terabytes
#: takes its time: this is against hanging only.
CHANGE_TIMEOUT: Final = 48 * 3600


class Device(msgspec.Struct, frozen=True):
    """`size` bytes from byte `start` of what the descriptor `fd` is open on.

    A whole image starts at 0; a partition of it is a device too (`part`). Tools get
    `path`, which a confined tool can open as long as it is run with `pass_fds`. They open
    it anew, so that a descriptor open for reading does not keep a tool from writing. `lock`:
    the descriptor of the image's lock, and `keeps`: others; a tool that outlives the agent holds on
    to all of them.
    """

    fd: int
    size: int
    start: int = 0
    lock: int = -1
    keeps: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.fd}"

    @property
    def pass_fds(self) -> tuple[int, ...]:
        return (self.fd, *self.keeps, *((self.lock,) if self.lock >= 0 else ()))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`: fewer than `length`, or none, where the device ends."""
        length = min(length, self.size - offset)
        return os.pread(self.fd, length, self.start + offset) if length > 0 else b""

    def part(self, start: int, size: int) -> Device:
        """The device that begins `start` bytes into this one, cut off where this one ends."""
        start = min(start, self.size)
        size = min(size, self.size - start)
        return Device(self.fd, size, self.start + start, self.lock, self.keeps)


class Capabilities(msgspec.Struct, frozen=True):
    """What virtstore can do with a file system where the host has its `tools`. `mounted`: only
    while it is mounted in the host's kernel, which the host's configuration has to allow.
    `why_not` gives the error to be raised for what it cannot do."""

    grow: bool
    shrink: bool
    tools: tuple[str, ...]
    mounted: bool = False
    why_not: Callable[[], Error] | None = None


class Resized(msgspec.Struct, frozen=True):
    """A file system's `size` in bytes now, and whether that is a new one."""

    size: int
    changed: bool


#: Told how far a long step is: done and total, in whatever the tool counts.
Watch = Callable[[int, int], None]


def unwatched(done: int, total: int) -> None:
    """Takes progress, for whoever does not want to know."""


class FileSystem(Protocol):
    @property
    def types(self) -> tuple[str, ...]:
        """blkid's names of what this handles."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def size(self, device: Device) -> int | None:
        """Bytes that the file system says it has; None where it says nothing that could be true.
        Reads a few fields and starts no tool; no contents make it raise."""
        ...

    def minimum(self, device: Device) -> int | None:
        """The fewest bytes that the file system could be shrunk to; None where it cannot
        tell (unclean, or only when mounted). Changes nothing, and no contents make it raise."""
        ...

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """Grow to `size` bytes (rounded down to whole blocks), or to fill the device.

        Nobody may be using the device. Already as asked: nothing is written but what mends
        one that is not clean. Raises `UsageError` for a size that the device cannot hold or
        that would shrink it, `Unsupported` for what this host's tools cannot grow, and
        `Corrupt`, before its size is touched, where the file system fails its check.
        """
        ...

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """Shrink to `size` bytes at most (rounded down to whole blocks), or as far as it goes.

        Checked before and after; flushed. When it returns, the file system ends at or before
        `size`, and nothing of it lies behind. Already that small: as `grow`. Raises,
        with the size as it was, `Unsafe` for a size that its contents do not fit in (naming
        the smallest that they do), `Unsupported`, and `Corrupt` as `grow`.
        """
        ...
