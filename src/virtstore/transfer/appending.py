"""An archive's bytes, written one after the other: new ones, and such as another archive has."""

from __future__ import annotations

from typing import Final

from virtstore.backends.base import ArchiveSink, Readable
from virtstore.formats.seek_table import is_padding
from virtstore.transfer.page_cache import Writing

#: Bytes of another archive that are taken over at once, at the most.
_MOST_AT_ONCE: Final = 256 << 20


class Appending:
    """Writes to a draft. `written`: bytes that were, and are not shared with another archive.

    Frames that lie end to end in another archive, padding between them included, are taken over at
    once, so that their file system can share whole blocks.
    """

    def __init__(self, archive: ArchiveSink) -> None:
        self._archive = archive
        self._writing = Writing(archive)
        self._other: Readable | None = None
        self._begin = self._end = 0  # of the other archive, to be taken over
        self._padding = b""  # that follows those bytes here
        self._position = 0
        self.written = 0

    def __call__(self, data: bytes) -> None:
        if self._other and not self._padding and is_padding(data):
            self._padding = data
            return
        self.flush()
        self._append(data)

    def append_from(self, other: Readable, offset: int, length: int) -> None:
        """Write bytes of another archive. The padding before them is there as it is here."""
        follows = self._other is other and offset == self._end + len(self._padding)
        if not follows or offset + length - self._begin > _MOST_AT_ONCE:
            self.flush()
            self._other, self._begin = other, offset
        self._padding = b""
        self._end = offset + length

    def flush(self) -> None:
        """Write what was left for later."""
        other, padding = self._other, self._padding
        if other is None:
            return
        self._other, self._padding = None, b""
        length = self._end - self._begin
        shared = self._archive.append_from(other, self._begin, length)
        self._wrote(length)
        self.written += length - shared
        if padding:
            self._append(padding)

    def finish(self) -> None:
        """The archive ends here."""
        self.flush()

    def _append(self, data: bytes) -> None:
        self._archive.append(data)
        self._wrote(len(data))
        self.written += len(data)

    def _wrote(self, length: int) -> None:
        self._writing.wrote(self._position, length)
        self._position += length
        self._writing.reached(self._position)
