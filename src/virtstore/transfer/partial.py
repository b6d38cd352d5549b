"""What a cut copy left of an archive in our own format, to go on with.

The archive is written anew from its start, in the same draft: as long as what is written is
what is there, nothing is. From the first byte that is not, what lies behind is set aside in
a file without a name, because frames of it may be wanted further on. So every frame that
the source still has is used again, wherever the source has changed, and a copy that was cut
twice goes on where the second one was.

What is looked at is the draft as it was: the `_View`, which does not change under whoever
reads it. A frame is moved only if it is, byte for byte, the one that was looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.backends.base import Image, ResumableSink
from virtstore.digest import CHUNK, ZEROS, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.blocks import decompress_block, holds_zeros, require_zeros
from virtstore.formats.foreign import Foreign
from virtstore.formats.seekable import SeekableWriter, frames_at_start
from virtstore.formats.zstd_frames import CHECKSUM_SIZE
from virtstore.model import Compression
from virtstore.transfer.sources import Piece, Source

_STEP: Final = 1 << 20


class _Kept(NamedTuple):
    """Where a chunk's frame lies, its checksum, and the digest of its bytes."""

    position: int
    stored: int
    checksum: bytes
    seal: bytes


class PartialArchive:
    """A draft that an earlier copy, of an image of `size` bytes, may have written a part of.

    As a `Source` it is that part of the image; what cannot be read of it is told as chunks of
    no contents, which equal no other. `scratch` is where things are set aside; `sink` is what
    the archive is written to, from its start.
    """

    compression: Compression | None = "zstd"
    digest: str | None = None
    holds: Foreign | None = None

    def __init__(self, draft: ResumableSink, scratch: Image, size: int) -> None:
        self.size = size
        self._view = _View(draft, scratch)
        self.sink = Rewriting(draft, self._view)
        self._kept: dict[int, _Kept] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """Archives are files: nothing can be lost."""

    def again(self) -> Source | None:
        return None

    def pieces(self) -> Iterator[Piece]:
        offset = 0
        with suppress(Corrupt):  # where the part ends that was written
            for position, frame, length in frames_at_start(self._view, self.size):
                yield self._piece(offset, position, frame, length)
                offset += length

    def _piece(self, offset: int, position: int, frame: bytes, length: int) -> Piece:
        if length > CHUNK:
            require_zeros(frame, length)
            return Piece(offset, length)

        def read() -> bytes:
            if holds_zeros(frame, length):
                return ZEROS[:length]
            with suppress(Corrupt):
                contents = decompress_block(frame, length)
                checksum = frame[-CHECKSUM_SIZE:]
                kept = _Kept(position, len(frame), checksum, chunk_digest(frame))
                with self._lock:
                    self._kept[offset // CHUNK] = kept
                return contents
            return b""

        return Piece(offset, length, read)

    def put(self, chunk: int, length: int, writer: SeekableWriter) -> None:
        """The frame of a chunk that was read is the archive's next. Raises `Corrupt` if it has
        to be moved and is not what it was."""
        kept = self._kept.get(chunk)
        if kept and self.sink.passes(kept.position, kept.stored):
            writer.add_stored(kept.stored, kept.checksum, length)
            return
        frame = self._view.read_at(kept.position, kept.stored) if kept else b""
        if kept is None or chunk_digest(frame) != kept.seal:
            raise Corrupt("what an earlier copy had left has changed; run the copy again")
        writer.add_frame(frame, length)

    def forget(self, before: int) -> None:
        """No chunk before number `before` will be asked for again."""
        with self._lock:
            while self._kept and (first := next(iter(self._kept))) < before:
                del self._kept[first]


class Rewriting:
    """Writes an archive's bytes one after the other, where they are not there already.
    `written`: bytes that were written; `position`: bytes that the archive has."""

    def __init__(self, draft: ResumableSink, view: _View) -> None:
        self._draft = draft
        self._view = view
        self._differs = False
        self.position = 0
        self.written = 0

    def __call__(self, data: bytes) -> None:
        if not self._differs and self._view.read_at(self.position, len(data)) != data:
            self._view.set_aside(self.position)
            self._differs = True
        if self._differs:
            self._draft.write_at(self.position, data)
            self.written += len(data)
        self.position += len(data)

    def passes(self, position: int, length: int) -> bool:
        """Whether what was there at `position` is the archive's next, so that it can stay."""
        if self._differs or position != self.position:
            return False
        self.position += length
        return True

    def finish(self) -> None:
        """The archive ends here."""
        self._draft.cut(self.position)


class _View:
    """The draft as it was before anything was written to it."""

    def __init__(self, draft: ResumableSink, scratch: Image) -> None:
        self._draft = draft
        self._scratch = scratch
        self._aside: int | None = None
        self._lock = threading.Lock()
        self.size = draft.size

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        with self._lock:
            if self._aside is None:
                return self._draft.read_at(offset, length)
            here = max(0, min(length, self._aside - offset))
            data = self._draft.read_at(offset, here)
            if here < length:
                data += self._scratch.read_at(offset + here - self._aside, length - here)
            return data

    def set_aside(self, start: int) -> None:
        """From `start` on the draft is going to be written."""
        for offset in range(start, self.size, _STEP):
            self._scratch.write_at(offset - start, self._draft.read_at(offset, _STEP))
        with self._lock:
            self._aside = start
