"""Ways in which an archive of virtstore's is damaged, each at a part that is named.

An archive is frames, a JSON frame (a skippable frame whose magic number ends in 0x50), a
seek table (0x5E) and, in its last nine bytes, the table's footer; see docs/archive-format.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from blake3 import blake3

_SKIPPABLE: Final = struct.Struct("<II")
_JSON_MAGIC: Final = 0x184D2A50
_TABLE_MAGIC: Final = 0x184D2A5E
_ENTRY: Final = struct.Struct("<III")
_FOOTER: Final = 9
#: What no file can be: one byte more than the largest offset.
EIGHT_EIB: Final = 1 << 63


class Parts(NamedTuple):
    """Where the parts of an archive begin."""

    json: int
    table: int
    footer: int


def parts(archive: bytes) -> Parts:
    table = archive.rindex(_TABLE_MAGIC.to_bytes(4, "little"))
    json_frame = archive.rindex(_JSON_MAGIC.to_bytes(4, "little"), 0, table)
    return Parts(json_frame, table, len(archive) - _FOOTER)


def _cut(at: Callable[[Parts], int]) -> Callable[[bytes], bytes]:
    return lambda archive: archive[: at(parts(archive))]


def _flip(at: Callable[[Parts], int]) -> Callable[[bytes], bytes]:
    def flipped(archive: bytes) -> bytes:
        damaged = bytearray(archive)
        damaged[at(parts(archive))] ^= 0x10
        return bytes(damaged)

    return flipped


def _claim_in_json(archive: bytes) -> bytes:
    """A JSON frame that says 8 EiB, in an archive whose table fits it again."""
    found = parts(archive)
    said = json.loads(archive[found.json + _SKIPPABLE.size : found.table])
    del said["check"]
    text = json.dumps({**said, "size": EIGHT_EIB}).encode()[:-1]
    text += b',"check":"%s"}' % blake3(text).hexdigest(length=16).encode()
    frame = _SKIPPABLE.pack(_JSON_MAGIC, len(text)) + text
    last = _ENTRY.pack(len(frame), 0, _ENTRY.unpack(archive[found.footer - 12 : found.footer])[2])
    entries = archive[found.table : found.footer - 12]
    return archive[: found.json] + frame + entries + last + archive[found.footer :]


def _claim_in_table(archive: bytes) -> bytes:
    """A seek table whose first frame is said to hold 4 GiB, the most that an entry can say."""
    length = parts(archive).table + _SKIPPABLE.size + 4
    return archive[:length] + b"\xff" * 4 + archive[length + 4 :]


def _claim_in_header(archive: bytes) -> bytes:
    """A plain frame that says 8 EiB of itself, and holds one empty block.

    RFC 8878, 3.1.1.1: descriptor 0xC0 is an eight-byte content size; then a window of 2 MiB.
    """
    return b"\x28\xb5\x2f\xfd\xc0\x58" + struct.pack("<Q", EIGHT_EIB) + b"\x01\x00\x00"


DAMAGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "cut to nothing": lambda archive: b"",
    "cut to its magic number": lambda archive: archive[:4],
    "cut in the first frame": lambda archive: archive[:1000],
    "cut in the middle": lambda archive: archive[: len(archive) // 2],
    "cut before the JSON frame": _cut(lambda p: p.json),
    "cut in the JSON frame": _cut(lambda p: p.json + 40),
    "cut before the seek table": _cut(lambda p: p.table),
    "cut in the seek table": _cut(lambda p: p.table + 20),
    "cut in the footer": _cut(lambda p: p.footer + 5),
    "without its last byte": _cut(lambda p: p.footer + _FOOTER - 1),
    "a bit flipped in the data": _flip(lambda p: p.json // 2),
    "a bit flipped in the last frame's checksum": _flip(lambda p: p.json - 1),
    "a bit flipped in the digest": _flip(lambda p: p.table - 20),
    "a bit flipped in the seek table": _flip(lambda p: p.table + 10),
    "a bit flipped in the footer": _flip(lambda p: p.footer + 1),
    "8 EiB claimed by the JSON frame": _claim_in_json,
    "4 GiB claimed by an entry of the seek table": _claim_in_table,
    "8 EiB claimed by a zstd header": _claim_in_header,
}
