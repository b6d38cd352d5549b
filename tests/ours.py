"""Archives of ours, made from an image's start to its end, for tests of whatever reads them."""

from __future__ import annotations

from array import array

from virtstore import formats
from virtstore.digest import CHUNK, ZEROS, ImageDigest, chunk_digest
from virtstore.formats.archive_end import EMPTY_CHECKSUM, JSON_MAGIC
from virtstore.formats.base import Format, ImageWriter, Sink
from virtstore.formats.chunk_frames import DEFAULT_LEVEL, compress_block
from virtstore.formats.seals import Seal, checksum
from virtstore.formats.seek_table import FOOTER_MAGIC, SKIPPABLE, encode_table
from virtstore.formats.seekable import SeekableWriter
from virtstore.formats.summary import UNLABELLED, Label


class Writer:
    """An archive of ours, made of an image that comes in pieces of any size."""

    def __init__(self, sink: Sink, level: int = DEFAULT_LEVEL, label: Label = UNLABELLED) -> None:
        self._archive = SeekableWriter(sink, label)
        self._digest = ImageDigest()
        self._level = level
        self._pending = bytearray()
        self._zeros = 0

    def write(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= CHUNK:
            self._add(bytes(memoryview(self._pending)[:CHUNK]))
            del self._pending[:CHUNK]

    def finish(self) -> None:
        if self._pending:
            self._add(bytes(self._pending))
        self._flush_zeros()
        self._archive.finish(self._digest.hexdigest())

    def abandon(self) -> None:
        self._pending.clear()

    def _add(self, chunk: bytes) -> None:
        if chunk == ZEROS[: len(chunk)]:
            self._zeros += len(chunk)
            return
        self._flush_zeros()
        self._digest.add(chunk_digest(chunk))
        frame = compress_block(chunk, self._level)
        seal = Seal(chunk_digest(chunk), checksum(frame))
        self._archive.add_frame(frame, len(chunk), seal)

    def _flush_zeros(self) -> None:
        self._digest.add_zeros(self._zeros)
        self._archive.add_zeros(self._zeros)
        self._zeros = 0


def archive_of(image: bytes, label: Label = UNLABELLED) -> bytes:
    written: list[bytes] = []
    writer = Writer(written.append, label=label)
    writer.write(image)
    writer.finish()
    return b"".join(written)


def writer_of(
    form: Format, sink: Sink, level: int | None = None, label: Label = UNLABELLED
) -> ImageWriter:
    if stream := formats.STREAMS.get(form.name):
        return stream.writer(sink, level)
    return Writer(sink, form.default_level if level is None else level, label)


def undated(archive: bytes) -> bytes:
    """An archive up to where it says when it was made: that of two of the same image differs. What
    is no archive, as it is."""
    if not archive.endswith(FOOTER_MAGIC.to_bytes(4, "little")):
        return archive
    return archive[: archive.rindex(JSON_MAGIC.to_bytes(4, "little"))]


def first_version_of(image: bytes) -> bytes:
    """An archive of ours as version 1 of the format has it."""
    frames, table, digest = [], array("I"), ImageDigest()
    for begin in range(0, len(image), CHUNK):
        chunk = image[begin : begin + CHUNK]
        frame = compress_block(chunk)
        frames.append(frame)
        table.extend((len(frame), len(chunk), int.from_bytes(frame[-4:], "little")))
        digest.add(chunk_digest(chunk))
    text = b'{"format":"virtstore","version":1,"size":%d,"chunk":%d,"digest":"%s"}' % (
        len(image),
        CHUNK,
        digest.hexdigest().encode(),
    )
    table.extend((8 + len(text), 0, EMPTY_CHECKSUM))
    frames += [SKIPPABLE.pack(JSON_MAGIC, len(text)), text, encode_table(table)]
    return b"".join(frames)
