"""Archive formats: the table of them, and finding out which one an archive is in.

What a file is, its contents say and its name does not. Recognition needs a magic number
and the fields behind it that have few values, and it must not need more: an archive with
a damaged header is to be refused as a damaged archive, not taken for a raw image.

A raw image whose guest wrote an archive's header to its first bytes is recognised as that
archive. So whoever can know that an image is raw (a volume always is) does not ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from virtstore import names
from virtstore.errors import Corrupt, UsageError
from virtstore.formats import foreign
from virtstore.formats.base import ArchiveSource, Format, StreamFormat
from virtstore.formats.foreign import Foreign
from virtstore.formats.gzip import Gzip
from virtstore.formats.lz4 import Lz4
from virtstore.formats.lzop import Lzop
from virtstore.formats.seekable import SeekableArchive
from virtstore.formats.xz import Xz
from virtstore.formats.zstd import Zstd
from virtstore.formats.zstd_frames import is_skippable, skippable_length
from virtstore.model import Compression

__all__ = [
    "FORMATS",
    "RAW",
    "STREAMS",
    "Recognised",
    "by_name",
    "detect",
    "foreign",
    "recognise",
    "refuse_broken_promise",
]

#: Those that are written as streams. Adding one is one file and one entry.
STREAMS: Final[dict[Compression, StreamFormat]] = {
    "lz4": Lz4(),
    "lzop": Lzop(),
    "gzip": Gzip(),
    "xz": Xz(),
}
#: Every format by its name.
FORMATS: Final[dict[Compression, Format]] = {"zstd": Zstd(), **STREAMS}


class Recognised(NamedTuple):
    """What some bytes are: an archive that is read here, or something foreign; neither: a raw
    disk's."""

    archive: Format | None = None
    foreign: Foreign | None = None


#: What a raw disk is, whatever is in it.
RAW: Final = Recognised()

_HEAD: Final = 64
#: Skippable frames that are looked behind: pzstd writes one before each frame.
_MOST_SKIPPED: Final = 16


def by_name(name: str) -> Format:
    """The format that is called `name`. Raises `UsageError` if there is none."""
    for format_name, format_ in FORMATS.items():
        if format_name == name:
            return format_
    raise UsageError(f"{name!r} is no archive format; there are {', '.join(FORMATS)}")


def refuse_broken_promise(name: str) -> None:
    """Raises `Corrupt` where a file that holds no archive and nothing foreign is called like
    one: with a damaged beginning it is not to pass for an image."""
    if promised := names.archive_format(name):
        what = f"a {promised} archive ({names.SUFFIXES[promised]})"
    elif kind := names.promised(name):
        what = names.KINDS[kind].what
    else:
        return
    raise Corrupt(
        f"it is called {what} and is none: it is damaged, or has the wrong name; if it is an"
        " image, give it another name"
    )


def recognise(source: ArchiveSource) -> Recognised:
    """What the contents of `source` are."""
    if archive := detect(source):
        return Recognised(archive=archive)
    return Recognised(foreign=foreign.detect(source))


def detect(source: ArchiveSource) -> Format | None:
    """The format that the contents of `source` are in; None for what is no archive."""
    head = source.read_at(0, _HEAD)
    if is_skippable(head):
        return _behind_skippable(source)
    return _recognise(head, FORMATS)


def _behind_skippable(source: ArchiveSource) -> Format | None:
    # zstd and lz4 share skippable frames: the first other frame tells which of them it is.
    position, head = 0, source.read_at(0, _HEAD)
    for _ in range(_MOST_SKIPPED):
        if len(head) < 8 or not is_skippable(head):
            break
        position += skippable_length(head)
        if position >= source.size:
            break
        head = source.read_at(position, _HEAD)
    if position == source.size:  # nothing but skippable frames: our archive of an empty image
        try:
            return FORMATS["zstd"] if SeekableArchive.open(source) else None
        except Corrupt:  # it says that it is ours; what is wrong with it, its reader tells
            return FORMATS["zstd"]
    return _recognise(head, ("zstd", "lz4"))


def _recognise(head: bytes, among: Iterable[Compression]) -> Format | None:
    return next((FORMATS[name] for name in among if FORMATS[name].recognises(head)), None)
