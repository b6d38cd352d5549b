"""What a file can hold that is neither a raw image nor an archive that virtstore reads.

Containers (`containers`) and other programs' archives. They are named, so that a user learns
what there is, and so that none passes for a raw image whose bytes could be cut or written to a
volume.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from virtstore.digest import CHUNK
from virtstore.formats import containers
from virtstore.formats.base import ArchiveSource
from virtstore.formats.containers import Container
from virtstore.formats.zstd_frames import is_skippable, skippable_length
from virtstore.names import KINDS, Kind

_HEAD: Final = 512
_ENOUGH: Final = 256 << 10
_MOST_SKIPPED: Final = 64


class Foreign(NamedTuple):
    """Something foreign. `name`: as `names.KINDS` has it; `container`: a container's header."""

    name: str
    container: Container | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


def detect(source: ArchiveSource) -> Foreign | None:
    """The foreign thing that `source` is; None for a raw image, and for an archive that is read
    here."""
    if container := containers.detect(source):
        return Foreign(container.format, container)
    head = source.read_at(0, _HEAD)
    for name, magic in _MAGIC.items():
        if re.match(magic, head, re.DOTALL):
            return Foreign(name)
    if _is_lzma(head):
        return Foreign("lzma")
    return Foreign("no-zstd-frame") if _is_only_skippable(source, head) else None


class Ends(NamedTuple):
    """The beginning of an archive's image, and its end where that was read. `size` is the image's
    if the `foot` is known, else that of the `head`."""

    head: bytes
    foot: bytes = b""
    whole: int | None = None

    @property
    def size(self) -> int:
        return len(self.head) if self.whole is None else self.whole

    def read_at(self, offset: int, length: int) -> bytes:
        behind = offset - (self.size - len(self.foot))
        return self.foot[behind:][:length] if behind >= 0 else self.head[offset:][:length]


def first_of(pieces: Iterator[bytes]) -> bytes:
    """The beginning of an image that comes in pieces: enough to recognise it, at most a chunk."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _ENOUGH:
            break
    return head[:CHUNK]


_MAGIC: Final = {
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "lzip": rb"LZIP[\x00\x01]",
    "lrzip": rb"LRZI\0",
    "compress": rb"\x1f\x9d[\x89-\x90\x09-\x10]",
    "zip": rb"PK(?:\x03\x04|\x05\x06|\x07\x08PK)",
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "rar": rb"Rar!\x1a\x07",
    "tar": rb".{257}ustar(?:\0|  \0)",
    "cpio": rb"07070[127][0-9A-Fa-f]{6}",
    "cab": rb"MSCF\0\0\0\0",
    "ar": rb"!<arch>\n",
    "xar": rb"xar!\0\x1c",
    "wim": rb"MSWIM\0\0\0",
    "ewf": rb"EVF\x09\x0d\x0a\xff\0|EVF2\x0d\x0a\x81\0",
    "partclone": rb"partclone-image",
    "android-sparse": rb"\x3a\xff\x26\xed\x01\x00",
    "old-zstd": rb"[\x1e\x22-\x27]\xb5\x2f\xfd",
}


def _is_lzma(head: bytes) -> bool:
    """As xz(1) recognises it, which has no magic number: the usual properties, a dictionary of
    2^n or 2^n + 2^(n-1) bytes, and a size that is unknown or below 256 GiB."""
    if len(head) < 14 or head[0] != 0x5D or head[13] != 0:
        return False
    dictionary, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    power = 1 << max(dictionary.bit_length() - 1, 0)
    usual = dictionary in (power, power | power >> 1) and dictionary >= 4096
    return usual and (size == 2**64 - 1 or size < 1 << 38)


def _is_only_skippable(source: ArchiveSource, head: bytes) -> bool:
    """Whether a file consists of skippable frames of zstd and lz4 only."""
    position = 0
    for _ in range(_MOST_SKIPPED):
        if len(head) < 8 or not is_skippable(head):
            return False
        position += skippable_length(head)
        if position >= source.size:
            return position == source.size
        head = source.read_at(position, 8)
    return False
