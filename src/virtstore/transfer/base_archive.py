"""The archive that a new one is based on: chunks that both have are taken from it.

Its seals tell what it holds. Whether a frame is sound, the checksum in its seal tells; a frame that
is not is as good as none, and its chunk is sent anew. No frame is read for that where its store
keeps such checksums itself (an object in a bucket). The new archive depends on its base in
nothing: it has the frames themselves, or shares their blocks where the file system can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

from virtstore.backends.base import ArchiveSink, Readable
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.foreign import Foreign
from virtstore.formats.seals import NOTHING, Seal, Seals
from virtstore.formats.seekable import SeekableArchive, SeekableWriter
from virtstore.formats.zstd_frames import CHECKSUM_SIZE
from virtstore.model import Compression
from virtstore.transfer.appending import Appending
from virtstore.transfer.page_cache import Reading
from virtstore.transfer.pieces import Piece, Source, announced
from virtstore.transfer.pipeline import BATCH, in_order
from virtstore.transfer.resume_archive import Rewriting


class BaseArchive:
    """The archive in `image`, for a new one in `draft` of an image of `size` bytes.

    As a `Source` it gives the chunks that both images can have. `damaged`: how many of its frames
    were found to be unsound. Raises `Unsupported` for an archive that has no seals, `Corrupt` for a
    damaged one.
    """

    compression: Compression | None = "zstd"
    digest: str | None = None
    holds: Foreign | None = None

    def __init__(self, image: Readable, draft: ArchiveSink, size: int) -> None:
        archive = SeekableArchive.open(image)
        if archive is None or archive.seals is None:
            raise Unsupported(
                "only archives that this version of virtstore made, or a later one, can be a base;"
                " 'virtstore copy --archive' makes one of any other"
            )
        archive.seals.check()
        self.size = size
        self.sink: Appending | Rewriting = Appending(draft)
        self._unsound: set[int] = set()  # numbers of frames
        self._image = image
        self._archive = archive
        self._seals: Seals = archive.seals
        self._reading = Reading(image)
        self._lock = threading.Lock()

    @property
    def image_digest(self) -> str:
        """The digest of the image that the archive holds, of which its seals are."""
        return self._archive.digest

    @property
    def damaged(self) -> int:
        return len(self._unsound)

    def check(self) -> None:
        self._reading.end()  # archives are files: nothing can be lost

    def again(self) -> Source | None:
        return None  # its checksums tell

    def is_as_it_was(self, told: Callable[[], None]) -> bool:
        """Whether only frames are damaged that were when they were looked at before."""
        known, self._unsound = self._unsound, set()

        def look(piece: Piece) -> None:
            if piece.digest:
                piece.digest()

        for _ in in_order(look, announced(self.pieces()), batch=BATCH):
            told()
        self._reading.end()
        found, self._unsound = self._unsound, known
        return found <= known

    def pieces(self) -> Iterator[Piece]:
        for number, frame in enumerate(self._archive.frames):
            if frame.offset >= self.size:
                return
            length = min(frame.length, self.size - frame.offset)
            if self._seals[number].digest == NOTHING:
                yield Piece(frame.offset, length)
                continue
            announce = None
            if not self._image.self_checking:
                announce = partial(self._reading.next, frame.position, frame.stored)
            digest = partial(self._digest, number)
            yield Piece(frame.offset, length, announce=announce, digest=digest)

    def _digest(self, number: int) -> bytes:
        """The digest of a frame's chunk; what is no chunk's digest where the frame is damaged."""
        if self._image.self_checking:
            return self._seals[number].digest
        try:
            self._archive.sealed(number)
        except (Corrupt, OSError):  # its disk may be damaged, too
            with self._lock:
                self._unsound.add(number)
            return NOTHING
        return self._seals[number].digest

    def put(self, chunk: int, length: int, digest: bytes, writer: SeekableWriter) -> None:
        """Make the frame of a chunk, whose digest was told, the new archive's next."""
        number = self._archive.frames.find(chunk * CHUNK)
        frame, seal = self._archive.frames[number], self._seals[number]
        if (frame.offset, frame.length, seal.digest) != (chunk * CHUNK, length, digest):
            raise Corrupt("the source left out a chunk that the base has not")
        writer.pad()
        self.sink.append_from(self._image, frame.position, frame.stored)
        ending = frame.checksum.to_bytes(CHECKSUM_SIZE, "little")
        writer.add_stored(frame.stored, ending, length, Seal(digest, seal.checksum))

    def forget(self, before: int) -> None:
        """Nothing is kept of a chunk."""
