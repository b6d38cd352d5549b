"""What an archive format can do: the contract that every format keeps.

A format is named by what `model.Compression` calls it and found by an archive's first
bytes, never by its name. Reading is total: a reader yields the whole image or raises
`Corrupt`, and it raises on a truncated archive, a flipped bit, junk after the end and a
size that the contents do not keep. What a reader holds in memory is bounded whatever an
archive claims of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from virtstore.errors import Corrupt
from virtstore.model import Compression


class Trailing(Corrupt):
    """All members up to byte `end` of an archive are whole, and what follows is none. `padding`:
    that is zeros behind the only member, as tapes and block devices add them. Behind several,
    zeros may be where a machine that stopped had written no more."""

    def __init__(
        self, form: Compression, end: int, size: int, *, members: int, zeros: bool
    ) -> None:
        self.padding = zeros and members == 1
        what = "zeros" if zeros else f"no {form}"
        super().__init__(
            f"up to byte {end} it is a whole {form} archive, and the {size - end} bytes behind that"
            f" are {what}. If another program appended them (metadata, padding), the image is"
            f" whole, and `head -c {end} ARCHIVE > NEW` makes an archive without them; if there"
            " was more of the archive, it is damaged there"
        )


class ArchiveSource(Protocol):
    """An archive as it lies on the host: its size in bytes, and reads at any offset."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, fewer only at the archive's end."""
        ...


#: Takes the next bytes of an archive being written. They are whole once it returns.
Sink = Callable[[bytes], None]


class ImageWriter(Protocol):
    """Turns an image, given from start to end, into an archive."""

    def write(self, data: bytes) -> None:
        """The image's next bytes (at most a chunk)."""
        ...

    def finish(self) -> None:
        """The image has ended: write what closes the archive. Without it, the archive
        is worthless and readers say so."""
        ...

    def abandon(self) -> None:
        """Give back what the writer holds (a process, say). Safe after `finish`, and twice."""
        ...


class Format(Protocol):
    @property
    def name(self) -> Compression: ...

    @property
    def suffix(self) -> str:
        """What `compress` adds to a name, with its dot."""
        ...

    @property
    def levels(self) -> range:
        """The levels that `--level` may name; the first is the fastest."""
        ...

    @property
    def default_level(self) -> int: ...

    def missing(self) -> tuple[str, ...]:
        """The programs that this host would need for the format and has not."""
        ...

    def recognises(self, head: bytes) -> bool:
        """Whether an archive that begins with `head` (16 bytes or more, where the file has
        them) is in this format."""
        ...

    def image_size(self, source: ArchiveSource) -> int | None:
        """Bytes of the image, without decompressing it; None where the format does not say, or
        only behind more headers than are looked at (`steps`). Raises `Corrupt` where what it
        says cannot be true."""
        ...

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        """The image from start to end, in pieces of at most a chunk (1 MiB). Raises
        `Corrupt`. Closing the iterator early gives back whatever it holds."""
        ...


class StreamFormat(Format, Protocol):
    """A format whose archives are written from start to end, too. Ours are written chunk by chunk,
    in any order of work (`seekable`)."""

    def writer(self, sink: Sink, level: int | None = None) -> ImageWriter:
        """A writer at `level` (the default where None). Raises `Unsupported` where the
        program that it needs is missing."""
        ...
