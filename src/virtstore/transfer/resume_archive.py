"""What a cut copy left of an archive in our own format, to go on with.

The archive is composed anew from its start, and compared with the draft. Bytes that the draft
has already are not written again. At the first byte that differs, the rest of the draft is set
aside in a file without a name, and frames are taken from there if the copy needs them further on.
So every frame that the source still has is used again, wherever the source has changed, and a copy
that was cut twice goes on where the second one was.

Frames are looked up in the draft as it was before this copy: the `_View`, which does not change
while it is read. A frame is moved only if it is, byte for byte, the one that was looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.backends.base import Image, Readable, ResumableSink
from virtstore.digest import CHUNK, ZEROS, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats import seals
from virtstore.formats.chunk_frames import decompress_block, holds_zeros, require_zeros
from virtstore.formats.foreign import Foreign
from virtstore.formats.seals import Seal
from virtstore.formats.seekable import SeekableWriter, frames_at_start
from virtstore.formats.zstd_frames import CHECKSUM_SIZE
from virtstore.model import Compression
from virtstore.transfer.pieces import Piece, Source

_STEP: Final = 1 << 20
_CHANGED: Final = "what an earlier copy had left has changed; run the copy again"


class _Kept(NamedTuple):
    """A chunk's frame in the view: its position, stored length, last bytes (`ending`), and the
    digest of its stored bytes, of which `seals.checksum` is the beginning."""

    position: int
    stored: int
    ending: bytes
    digest: bytes


class PartialArchive:
    """A draft of which an earlier copy, of an image of `size` bytes, may have written a part.

    As a `Source` it gives the chunks of that part. A chunk that cannot be read has no contents, and
    equals no other. `scratch` holds what is set aside; the archive is written to `sink`.
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
        """Nothing: an archive lies in a file, which cannot get lost like a snapshot."""

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
                ending = frame[-CHECKSUM_SIZE:]
                kept = _Kept(position, len(frame), ending, chunk_digest(frame))
                with self._lock:
                    self._kept[offset // CHUNK] = kept
                return contents
            return b""

        return Piece(offset, length, read)

    def put(self, chunk: int, length: int, digest: bytes, writer: SeekableWriter) -> None:
        """Make the frame of a chunk that was read, and has this digest, the archive's next. Raises
        `Corrupt` if the frame has to be moved and has changed since it was read."""
        kept = self._kept.get(chunk)
        if kept is None:
            raise Corrupt(_CHANGED)
        writer.pad()
        seal = Seal(digest, kept.digest[: seals.CHECKSUM_SIZE])
        if self.sink.passes(kept.position, kept.stored):
            writer.add_stored(kept.stored, kept.ending, length, seal)
            return
        frame = self._view.read_at(kept.position, kept.stored)
        if chunk_digest(frame) != kept.digest:
            raise Corrupt(_CHANGED)
        writer.add_frame(frame, length, seal)

    def forget(self, before: int) -> None:
        """No chunk before number `before` will be asked for again."""
        with self._lock:
            while self._kept and (first := next(iter(self._kept))) < before:
                del self._kept[first]


class Rewriting:
    """Writes an archive's bytes one after the other, but for those that the draft has already.
    `written`: bytes that were written; `position`: bytes that the archive has so far."""

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
        """Move on over a frame of the draft that stays where it is. False if it cannot: it does not
        lie where the archive's next frame has to, or the archive differs by now."""
        if self._differs or position != self.position:
            return False
        self.position += length
        return True

    def append_from(self, other: Readable, offset: int, length: int) -> None:
        """Write bytes of another archive."""
        self(other.read_whole(offset, length))

    def finish(self) -> None:
        """Cut the draft where the archive ends."""
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
        """Keep the draft's bytes from `start` on, which are going to be overwritten."""
        for offset in range(start, self.size, _STEP):
            self._scratch.write_at(offset - start, self._draft.read_at(offset, _STEP))
        with self._lock:
            self._aside = start
