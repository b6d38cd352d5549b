"""The JSON frame of an archive: whose it is, of what image, and which version of the format."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from blake3 import blake3

from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.model import Origin
from virtstore.units import MAX_SIZE

#: What is written. Version 1 is read as well: it has no seals, no padding and no origin.
VERSION: Final = 2
#: Where frames may begin, in bytes: anywhere, or where a block of a file system begins.
ALIGNMENTS: Final = (1, 4096)

_CHECK: Final = b',"check":"%s"}'
_CHECK_SIZE: Final = 16


class Label(msgspec.Struct, frozen=True):
    """What an archive says beside its image. `align`: bytes of which the positions of chunks'
    frames are multiples; `raw`: the image is a raw disk, whatever it looks like; `origin`: what it
    was made of."""

    align: int = 1
    raw: bool = False
    origin: Origin | None = None


UNLABELLED: Final = Label()


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """`size` in bytes; `digest` as `virtstore.digest` defines it, in hex. Behind those, which
    version 1 has as well: `seals`, the digest of all seals; `align`, of which the positions of
    chunks' frames are multiples; `raw`, whether the image is a raw disk, whatever it looks like;
    `origin`, an `Origin`."""

    format: Literal["virtstore"]
    version: int
    size: int
    chunk: int
    digest: str
    seals: str = ""
    align: int = 1
    raw: bool = False
    origin: msgspec.Raw = msgspec.Raw(b"null")

    def made_of(self) -> Origin | None:
        """Of what the archive was made; None where it does not say that, or in words that are not
        known here."""
        try:
            return msgspec.json.decode(self.origin, type=Origin | None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None


def encode(summary: Summary) -> bytes:
    """The text of the JSON frame, which ends with a check of itself."""
    text = msgspec.json.encode(summary)[:-1]
    return text + _CHECK % _check(text)


def decode(text: bytes) -> Summary | None:
    """The summary in a JSON frame; None where it is not that of one of ours. Raises `Corrupt` where
    it is damaged, or says what cannot be."""
    try:
        summary = msgspec.json.decode(text, type=Summary)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # msgspec has no error of its own for a string that is not UTF-8
    if summary.version == VERSION:
        begin = text[: -len(_CHECK % bytes(2 * _CHECK_SIZE))]
        if text != begin + _CHECK % _check(begin):
            raise Corrupt("what the archive says of itself does not have the checksum beside it")
    _require_plausible(summary)
    return summary


def _require_plausible(summary: Summary) -> None:
    known = summary.version in (1, VERSION) and summary.align in ALIGNMENTS
    if not known or summary.chunk != CHUNK:
        raise Corrupt(
            f"the archive says version {summary.version} and chunks of {summary.chunk} bytes;"
            f" this virtstore reads versions 1 to {VERSION} and {CHUNK}. It is damaged, or a"
            " newer virtstore made it (`zstd -d` restores it then)"
        )
    if not 0 <= summary.size <= MAX_SIZE:
        raise Corrupt(f"the archive says {summary.size} bytes of image")
    if not _is_digest(summary.digest) or (summary.version > 1 and not _is_digest(summary.seals)):
        raise Corrupt("the archive states no digest of its image")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _check(text: bytes) -> bytes:
    return blake3(text).digest(length=_CHECK_SIZE).hex().encode()
