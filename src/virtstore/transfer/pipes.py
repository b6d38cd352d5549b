"""A copy's source or target that is a pipe: an open descriptor without a place in a store.

What comes from a pipe is read to its end before anything is sent: how long an image is, what kind
of archive it is and whether that is whole are known only then. It is kept in a file without a name,
in which runs of zeros take no room. A plain file that was opened at its start is read as it lies.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
from collections.abc import Callable
from typing import Final

from virtstore.backends.base import ArchiveSink
from virtstore.backends.files.file import FileImage
from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Error, NoSpace
from virtstore.formats.base import Sink

#: Where files lie that are too large for memory, which /tmp may be.
_LARGE: Final = "/var/tmp"
#: Milliseconds between two looks at whether anybody waits for it still.
_LOOK: Final = 200


def whole_input(fd: int, look: Callable[[], None]) -> FileImage:
    """What the descriptor `fd` gives, once it has ended. `look` is called now and then, and may
    raise. Raises `NoSpace`."""
    if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
        return FileImage(os.dup(fd))
    directory = os.environ.get("TMPDIR") or _LARGE
    try:
        with tempfile.TemporaryFile(dir=directory) as kept:
            _keep(fd, kept.fileno(), look)
            return FileImage(os.dup(kept.fileno()))
    except OSError as error:
        raise NoSpace(
            f"what comes from standard input is kept in {directory} until it has ended, and there:"
            f" {error.strerror}; TMPDIR names another directory"
        ) from None


def _keep(fd: int, kept: int, look: Callable[[], None]) -> None:
    size = 0
    while chunk := _chunk_of(fd, look):
        if chunk != ZEROS[: len(chunk)]:
            written = 0
            while written < len(chunk):
                written += os.pwrite(kept, memoryview(chunk)[written:], size + written)
        size += len(chunk)
    os.ftruncate(kept, size)


def _chunk_of(fd: int, look: Callable[[], None]) -> bytes:
    """The next chunk that a descriptor gives, whole unless it is the last."""
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    parts: list[bytes] = []
    missing = CHUNK
    while missing:
        while not ready.poll(_LOOK):
            look()
        try:
            part = os.read(fd, missing)
        except OSError as error:
            raise Error(f"standard input cannot be read: {error.strerror}") from None
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    look()
    return b"".join(parts)


class PipeSink(ArchiveSink):
    """The descriptor `fd` as an archive that is written from start to end. Nothing of it can be
    taken back."""

    whole = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.written = 0

    @property
    def size(self) -> int:
        return self.written

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                count = os.write(self._fd, rest)
                self.written += count
                rest = rest[count:]
        except BrokenPipeError:
            raise Error(
                "whoever read standard output has gone before it had everything"
                f" ({self.written} bytes were written)"
            ) from None

    def finish(self) -> None:
        return

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        return

    def note_losses(self, note: str) -> bool:
        return False

    def abandon(self) -> None:
        return

    def close(self) -> None:
        return


class Plain:
    """No format: an image is written as it is, where others make an archive of it."""

    def writer(self, sink: Sink, level: int | None = None) -> PlainWriter:
        """See `formats.base.StreamFormat`."""
        return PlainWriter(sink)


class PlainWriter:
    """See `formats.base.ImageWriter`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        self._sink(data)

    def finish(self) -> None:
        return

    def abandon(self) -> None:
        return
