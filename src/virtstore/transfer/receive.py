"""The target's end of a copy: frames of the protocol in, a verified draft out.

Nothing that arrives is believed: chunks must come in order and without gaps, each must
decompress to the length that it declares, and the digest of what was written must be the
one that the source ends with. Publishing is the caller's step, after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

import msgspec

from virtstore.backends.base import Image
from virtstore.digest import CHUNK, ZEROS, ImageDigest, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.base import Format, ImageWriter
from virtstore.formats.blocks import decompress_block
from virtstore.formats.seekable import SeekableWriter
from virtstore.protocol import Data, End, Part, Same, Sent, Zero
from virtstore.transfer.compare import ChunkDigests
from virtstore.transfer.pipeline import in_order

#: Bytes that are on their way to the disk while the next ones are written: what a flush at
#: the end of a copy, which nothing can interrupt, has to wait for at the most.
_WINDOW: Final = 64 << 20


class Outcome(msgspec.Struct, frozen=True):
    """`written`: bytes written to the target; `digest`: the image's, as computed here."""

    written: int
    digest: str


class Taken(NamedTuple):
    """What a worker made of a frame: how long it is, its digest (None for zeros), and what
    is left to be written in order."""

    length: int
    digest: bytes | None = None
    rest: bytes = b""


class Target(Protocol):
    """What a copy writes to."""

    @property
    def written(self) -> int:
        """Bytes written so far."""
        ...

    def take(self, part: Part) -> Taken:
        """Deal with one frame, in any thread and in any order."""
        ...

    def commit(self, taken: Taken) -> None:
        """Called for each in the image's order, by one thread."""
        ...

    def finish(self, digest: str) -> None:
        """The image is whole and has this digest."""
        ...


def receive(frames: Iterable[Sent], size: int, target: Target) -> Outcome:
    """Take a whole image of `size` bytes. Raises `Corrupt` where it is not whole, or not
    what the source says that it is."""
    sequence = _Sequence(frames, size)
    digest = ImageDigest()
    for taken in in_order(target.take, sequence.data()):
        if taken.digest is None:
            digest.add_zeros(taken.length)
        else:
            digest.add(taken.digest)
        target.commit(taken)
    computed = digest.hexdigest()
    if computed != sequence.digest:
        raise Corrupt("what arrived is not what the source says it sent: the digests differ")
    target.finish(computed)
    return Outcome(target.written, computed)


class ImageTarget:
    """A raw image, written at offsets by several threads at once.

    `existing`: the digests of what the draft holds already, if that is worth comparing;
    `blank`: it holds nothing but zeros. What lies behind the source's end is zeroed.
    """

    def __init__(
        self, draft: Image, size: int, existing: ChunkDigests | None, *, blank: bool = True
    ) -> None:
        self._draft = draft
        self._size = size
        self._existing = existing
        self._blank = blank and existing is None
        self._position = 0
        self._begun = 0
        self.written = 0

    def take(self, part: Part) -> Taken:
        message, payload = part
        match message:
            case Zero(offset, length):
                self._zero(offset, length)
                return Taken(length)
            case Same(offset, length):
                return Taken(length, self._known(offset))
        contents = _contents(message, payload)
        self._draft.write_at(message.offset, contents)
        return Taken(message.length, chunk_digest(contents), rest=contents)

    def commit(self, taken: Taken) -> None:
        self.written += len(taken.rest)
        self._position += taken.length
        if self._position - self._begun >= _WINDOW:
            self._draft.write_out(self._begun, self._position - self._begun, wait=False)
            before = max(0, self._begun - _WINDOW)
            self._draft.write_out(before, self._begun - before, wait=True)
            self._begun = self._position

    def finish(self, digest: str) -> None:
        behind = self._draft.size - self._size
        if behind > 0:
            self._draft.zero(self._size, behind)

    def _zero(self, offset: int, length: int) -> None:
        first, count = offset // CHUNK, -(-length // CHUNK)
        known = self._existing and length % CHUNK == 0 and self._existing.all_zero(first, count)
        if not self._blank and not known:
            self._draft.zero(offset, length)

    def _known(self, offset: int) -> bytes:
        if self._existing is None:
            raise Corrupt("the source left out a chunk that was never compared")
        return self._existing.get(offset // CHUNK)


class Appending:
    """Writes an archive's bytes one after the other."""

    def __init__(self, draft: Image) -> None:
        self._draft = draft
        self.written = 0

    def __call__(self, data: bytes) -> None:
        self._draft.write_at(self.written, data)
        self.written += len(data)


class FrameTarget:
    """An archive in our own format: frames are taken as they are, once they are shown to
    hold what they say."""

    def __init__(self, draft: Image) -> None:
        self._sink = Appending(draft)
        self._writer = SeekableWriter(self._sink)

    @property
    def written(self) -> int:
        return self._sink.written

    def take(self, part: Part) -> Taken:
        message, payload = part
        if isinstance(message, Zero):
            return Taken(message.length)
        return Taken(message.length, chunk_digest(_contents(message, payload)), rest=payload)

    def commit(self, taken: Taken) -> None:
        if taken.digest is None:
            self._writer.add_zeros(taken.length)
        else:
            self._writer.add_frame(taken.rest, taken.length)

    def finish(self, digest: str) -> None:
        self._writer.finish(digest)


class StreamTarget:
    """An archive in any other format, made here from the decompressed image."""

    def __init__(self, draft: Image, form: Format, level: int | None) -> None:
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
        return Taken(message.length, chunk_digest(contents), rest=contents)

    def commit(self, taken: Taken) -> None:
        if taken.digest is not None:
            self._writer.write(taken.rest)
            return
        for offset in range(0, taken.length, CHUNK):
            self._writer.write(ZEROS[: min(CHUNK, taken.length - offset)])

    def finish(self, digest: str) -> None:
        self._writer.finish()

    def abandon(self) -> None:
        self._writer.abandon()


def _contents(message: Data | Same | Zero, payload: bytes) -> bytes:
    """The bytes of a chunk, of exactly the length that its message declares."""
    if not isinstance(message, Data):
        raise Corrupt("the source left out a chunk that was never compared")
    contents = payload if message.raw else decompress_block(payload, message.length)
    if len(contents) != message.length:
        raise Corrupt(
            f"the chunk at byte {message.offset} has {len(contents)} bytes, not the"
            f" {message.length} that were declared"
        )
    return contents


class _Sequence:
    """Frames that must cover the image from start to end, and then `End`."""

    def __init__(self, frames: Iterable[Sent], size: int) -> None:
        self._frames = frames
        self._size = size
        self.digest: str | None = None

    def data(self) -> Iterator[Part]:
        position = 0
        for message, payload in self._frames:
            if isinstance(message, End):
                self.digest = message.digest
                break
            self._check(message, position)
            position += message.length
            yield message, payload
        else:
            raise Corrupt("the copy ended before the source said that it was whole")
        if position != self._size:
            raise Corrupt(f"the source sent {position} of {self._size} bytes")

    def _check(self, message: Data | Zero | Same, position: int) -> None:
        rest = self._size - position
        if message.offset != position or not 0 < message.length <= rest:
            raise Corrupt(f"the source sent bytes out of order, at {message.offset}")
        whole = message.length % CHUNK == 0 or message.length == rest
        if not whole or (message.length > CHUNK and not isinstance(message, Zero)):
            raise Corrupt(f"the source sent a chunk of {message.length} bytes")
