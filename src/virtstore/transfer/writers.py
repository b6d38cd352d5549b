"""What a copy's target becomes: a raw image, an archive of ours, or an archive in another format.

Each keeps `receive.Target`: it does the work of a frame in any thread, and writes in order what
has to come in order. None of them believes what a frame says of itself.
"""

from __future__ import annotations

from typing import Protocol

from virtstore.backends.base import ArchiveSink, Image
from virtstore.digest import CHUNK, DIGEST_SIZE, ZEROS, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.base import ImageWriter, Sink
from virtstore.formats.chunk_frames import decompress_block
from virtstore.formats.seals import Seal, checksum
from virtstore.formats.seekable import SeekableWriter
from virtstore.formats.summary import UNLABELLED, Label
from virtstore.protocol import Data, Part, Patch, Same, Zero
from virtstore.transfer.appending import Appending
from virtstore.transfer.fingerprints import Fingerprints, block_range
from virtstore.transfer.page_cache import Writing
from virtstore.transfer.receive import Taken
from virtstore.transfer.resume_archive import Rewriting
from virtstore.transfer.send import Proven


class ImageTarget:
    """A raw image, written at offsets by several threads at once.

    `existing`: the fingerprints of what the draft holds already, if they are compared. `blank`: the
    draft holds nothing but zeros. What lies behind the source's end is zeroed.
    """

    def __init__(
        self, draft: Image, size: int, existing: Fingerprints | None, *, blank: bool = True
    ) -> None:
        self._draft = draft
        self._size = size
        self._existing = existing
        self._blank = blank and existing is None
        self._writing = Writing(draft)
        self._position = 0
        self.written = 0

    def take(self, part: Part) -> Taken:
        message, payload = part
        match message:
            case Zero(offset, length):
                self._zero(offset, length)
                return Taken(length)
            case Same(offset, length):
                return Taken(length, _known(self._existing, offset))
            case Patch():
                return self._patch(message, payload)
        contents = _contents(message, payload)
        self._draft.write_at(message.offset, contents)
        return Taken(message.length, _digest(message, contents), len(contents))

    def commit(self, taken: Taken) -> None:
        if taken.written:
            self.written += taken.written
            self._writing.wrote(self._position, taken.length)
        self._position += taken.length
        self._writing.reached(self._position)
        if self._existing:
            self._existing.forget(self._position // CHUNK)

    def finish(self, digest: str) -> None:
        behind = self._draft.size - self._size
        if behind > 0:
            self._draft.zero(self._size, behind)

    def _zero(self, offset: int, length: int) -> None:
        first, count = offset // CHUNK, -(-length // CHUNK)
        known = self._existing and length % CHUNK == 0 and self._existing.all_zero(first, count)
        if not self._blank and not known:
            self._draft.zero(offset, length)

    def _patch(self, message: Patch, payload: bytes) -> Taken:
        """Overwrite some blocks of a chunk. The digest is that of the whole chunk as it is now,
        so blocks that were wrongly taken for equal are found at the end."""
        _known(self._existing, message.offset)
        chunk = bytearray(self._draft.read_whole(message.offset, message.length))
        ranges = [block_range(number, message.length) for number in message.blocks]
        length = sum(end - begin for begin, end in ranges)
        contents = memoryview(_unpacked(message, payload, length))
        for begin, end in ranges:
            chunk[begin:end], contents = contents[: end - begin], contents[end - begin :]
            self._draft.write_at(message.offset + begin, memoryview(chunk)[begin:end])
        return Taken(message.length, chunk_digest(chunk), length)


class KeptFrames(Protocol):
    """Frames of an archive that the target has already: what a copy that was cut left in the draft,
    or those of another archive."""

    @property
    def sink(self) -> Appending | Rewriting:
        """What the archive is written to."""
        ...

    def put(self, chunk: int, length: int, digest: bytes, writer: SeekableWriter) -> None:
        """Make the frame of a chunk, whose digest was told, the archive's next. Raises `Corrupt` if
        that frame is no more what it was."""
        ...

    def forget(self, before: int) -> None:
        """No chunk before number `before` will be asked for again."""
        ...


class FrameTarget:
    """An archive in our own format. A frame is stored as it came, once it was seen to hold what it
    says. `kept`: frames that are there already, of which `existing` has the fingerprints."""

    def __init__(
        self,
        draft: ArchiveSink,
        existing: Fingerprints | None = None,
        kept: KeptFrames | None = None,
        label: Label = UNLABELLED,
    ) -> None:
        self._sink = kept.sink if kept else Appending(draft)
        self._existing = existing
        self._kept = kept
        self._writer = SeekableWriter(self._sink, label)
        self._chunk = 0

    @property
    def written(self) -> int:
        return self._sink.written

    def take(self, part: Part) -> Taken:
        message, payload = part
        match message:
            case Zero(_, length):
                return Taken(length)
            case Same(offset, length):
                return Taken(length, _known(self._existing, offset))
            case Data(raw=True):
                raise Corrupt("the source sent a chunk that is no frame, for an archive")
            case Proven(_, length, _, digest):
                pass
            case _:
                length, digest = message.length, chunk_digest(_contents(message, payload))
        return Taken(length, digest, rest=payload, checksum=checksum(payload))

    def commit(self, taken: Taken) -> None:
        if taken.digest is None:
            self._writer.add_zeros(taken.length)
        elif taken.rest is not None:
            seal = Seal(taken.digest, taken.checksum)
            self._writer.add_frame(taken.rest, taken.length, seal)
        elif self._kept:
            self._kept.put(self._chunk, taken.length, taken.digest, self._writer)
        self._chunk += -(-taken.length // CHUNK)
        if self._existing and self._kept:
            self._existing.forget(self._chunk)
            self._kept.forget(self._chunk)

    def finish(self, digest: str) -> None:
        self._writer.finish(digest)
        self._sink.finish()


class Writes(Protocol):
    """What is asked of a format here (`formats.base.StreamFormat`)."""

    def writer(self, sink: Sink, level: int | None = None) -> ImageWriter: ...


class StreamTarget:
    """An archive in any other format, made here from the decompressed image."""

    def __init__(self, draft: ArchiveSink, form: Writes, level: int | None) -> None:
        self._sink = Appending(draft)
        self._writer: ImageWriter = form.writer(self._sink, level)

    @property
    def written(self) -> int:
        return self._sink.written

    def take(self, part: Part) -> Taken:
        message, payload = part
        if isinstance(message, Zero):
            return Taken(message.length)
        contents = _contents(message, payload)
        return Taken(message.length, _digest(message, contents), rest=contents)

    def commit(self, taken: Taken) -> None:
        if taken.rest is not None:
            self._writer.write(taken.rest)
            return
        for offset in range(0, taken.length, CHUNK):
            self._writer.write(ZEROS[: min(CHUNK, taken.length - offset)])

    def finish(self, digest: str) -> None:
        self._writer.finish()

    def abandon(self) -> None:
        self._writer.abandon()


def _known(existing: Fingerprints | None, offset: int) -> bytes:
    """The digest of a chunk that the target has already. Raises `Corrupt` where it has not."""
    there = existing.get(offset // CHUNK) if existing else b""
    if not there:
        raise Corrupt("the source left out a chunk that was never compared")
    return there[:DIGEST_SIZE]


def _digest(message: Data | Patch | Same, contents: bytes) -> bytes:
    """The digest of a chunk's contents, computed unless this process computed it already."""
    return message.digest if isinstance(message, Proven) else chunk_digest(contents)


def _contents(message: Data | Patch | Same | Zero, payload: bytes) -> bytes:
    """The bytes of a chunk, of exactly the length that its message declares."""
    if not isinstance(message, Data):
        raise Corrupt("the source left out a chunk that was never compared")
    return _unpacked(message, payload, message.length)


def _unpacked(message: Data | Patch, payload: bytes, length: int) -> bytes:
    contents = payload if message.raw else decompress_block(payload, length)
    if len(contents) != length:
        raise Corrupt(
            f"the chunk at byte {message.offset} has {len(contents)} bytes, not the"
            f" {length} that were declared"
        )
    return contents
