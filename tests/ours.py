"""Archives of ours, made from an image's start to its end, for tests of whatever reads them."""

from __future__ import annotations

from virtstore import formats
from virtstore.digest import CHUNK, ZEROS, ImageDigest, chunk_digest
from virtstore.formats.base import Format, ImageWriter, Sink
from virtstore.formats.chunk_frames import DEFAULT_LEVEL, compress_block
from virtstore.formats.seekable import SeekableWriter


class Writer:
    """An archive of ours, made of an image that comes in pieces of any size."""

    def __init__(self, sink: Sink, level: int = DEFAULT_LEVEL) -> None:
        self._archive = SeekableWriter(sink)
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
        self._archive.add_frame(compress_block(chunk, self._level), len(chunk))

    def _flush_zeros(self) -> None:
        self._digest.add_zeros(self._zeros)
        self._archive.add_zeros(self._zeros)
        self._zeros = 0


def archive_of(image: bytes) -> bytes:
    written: list[bytes] = []
    writer = Writer(written.append)
    writer.write(image)
    writer.finish()
    return b"".join(written)


def writer_of(form: Format, sink: Sink, level: int | None = None) -> ImageWriter:
    if stream := formats.STREAMS.get(form.name):
        return stream.writer(sink, level)
    return Writer(sink, form.default_level if level is None else level)
