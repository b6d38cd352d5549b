"""How a connection to an NBD server begins: the newstyle handshake, up to NBD_OPT_GO.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Fixed newstyle
negotiation", "Option types", "Option reply types".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NoReturn

import msgspec

from virtstore.backends.nbd.stream import Stream
from virtstore.errors import ConnectionFailed, Corrupt, NotFound
from virtstore.text import remark

_GREETING: Final = struct.Struct(">8s8sH")
_MAGIC: Final = b"NBDMAGIC"
_HAVE_OPTION: Final = b"IHAVEOPT"
_FIXED_NEWSTYLE: Final = 1
_NO_ZEROES: Final = 2

_OPTION: Final = struct.Struct(">8sII")
_GO: Final = 7
_STRUCTURED_REPLY: Final = 8
_SET_META_CONTEXT: Final = 10

_REPLY: Final = struct.Struct(">QIII")
_REPLY_MAGIC: Final = 0x3E889045565A9
_ACK: Final = 1
_INFO: Final = 3
_META_CONTEXT: Final = 4
_ERROR: Final = 1 << 31
_UNKNOWN: Final = _ERROR + 6
#: No server has as much to say about an option, nor as often.
_LONGEST_REPLY: Final = 64 << 10
_MOST_REPLIES: Final = 64

_INFO_EXPORT: Final = 0
_INFO_BLOCK_SIZE: Final = 3
_CAN_MULTI_CONN: Final = 1 << 8

ALLOCATION: Final = b"base:allocation"
#: What may be asked for at once where a server does not say ("Block size constraints").
_MOST_BYTES: Final = 32 << 20
_LARGEST: Final = 1 << 62


class Terms(msgspec.Struct, frozen=True):
    """What a server said of an export. `allocation`: the number of the context that tells where it
    reads as zeros, None if there is none. `structured`: how it answers. `several`: it may be read
    by several connections. A request begins and ends at a multiple of `least` bytes and asks for no
    more than `most`."""

    size: int
    structured: bool = False
    allocation: int | None = None
    several: bool = False
    least: int = 1
    most: int = _MOST_BYTES

    @property
    def same_disk(self) -> tuple[int, int, int]:
        """What each connection to an export is told alike."""
        return self.size, self.least, self.most


def lies(what: str) -> NoReturn:
    """Raises `Corrupt`: a server did what no NBD server does."""
    raise Corrupt(f"the NBD server does not keep to the protocol: {what}")


def agree(stream: Stream, export: str) -> Terms:
    """Begin to use an export. Raises `NotFound` if the server has none of that name, `Corrupt` if
    what it says makes no sense, and `ConnectionFailed`."""
    _greet(stream)
    structured = _asked(stream, _STRUCTURED_REPLY) is not None
    name = export.encode()
    named = struct.pack(">I", len(name)) + name
    allocation = _allocation(stream, named) if structured else None
    answers = _asked(stream, _GO, named + struct.pack(">HH", 1, _INFO_BLOCK_SIZE))
    if answers is None:
        raise ConnectionFailed("the NBD server is too old: it does not know NBD_OPT_GO")
    return _terms([data for kind, data in answers if kind == _INFO], structured, allocation)


def _greet(stream: Stream) -> None:
    magic, newstyle, flags = _GREETING.unpack(stream.take(_GREETING.size))
    if magic != _MAGIC or newstyle != _HAVE_OPTION or not flags & _FIXED_NEWSTYLE:
        lies("it does not begin as one with the fixed newstyle handshake does")
    stream.ask(struct.pack(">I", _FIXED_NEWSTYLE | (flags & _NO_ZEROES)))


def _allocation(stream: Stream, named: bytes) -> int | None:
    query = struct.pack(">I", len(ALLOCATION)) + ALLOCATION
    answers = _asked(stream, _SET_META_CONTEXT, named + struct.pack(">I", 1) + query)
    for kind, data in answers or ():
        if kind == _META_CONTEXT and data[4:] == ALLOCATION:
            return int.from_bytes(data[:4])
    return None


def _asked(stream: Stream, option: int, data: bytes = b"") -> list[tuple[int, bytes]] | None:
    """The server's answers to an option, as kind and contents; None if it does not know it."""
    stream.ask(_OPTION.pack(_HAVE_OPTION, option, len(data)) + data)
    answers: list[tuple[int, bytes]] = []
    for kind, contents in _replies(stream, option):
        if kind == _ACK:
            return answers
        if kind == _UNKNOWN:
            raise NotFound(f"the NBD server has no such export: {remark(contents)}")
        if kind & _ERROR and option == _GO:
            raise ConnectionFailed(f"the NBD server refuses: {remark(contents)}")
        if kind & _ERROR:
            return None
        answers.append((kind, contents))
    lies("there is no end to its answers")


def _replies(stream: Stream, option: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(_MOST_REPLIES):
        magic, told, kind, length = _REPLY.unpack(stream.take(_REPLY.size))
        if magic != _REPLY_MAGIC or told != option or length > _LONGEST_REPLY:
            lies("its answer is none to what it was asked")
        yield kind, stream.take(length)


def _terms(infos: list[bytes], structured: bool, allocation: int | None) -> Terms:
    size, flags, least, most = -1, 0, 1, _MOST_BYTES
    for info in infos:
        kind = int.from_bytes(info[:2])
        if kind == _INFO_EXPORT and len(info) == 12:
            size, flags = struct.unpack_from(">QH", info, 2)
        elif kind == _INFO_BLOCK_SIZE and len(info) == 14:
            least, _, most = struct.unpack_from(">III", info, 2)
    if not 0 <= size <= _LARGEST:
        lies("it tells no size that an export could have")
    if least not in (1 << n for n in range(17)) or size % least or most < max(least, 4096):
        lies("it asks for blocks that no export could have")
    several = bool(flags & _CAN_MULTI_CONN)
    most = min(most, _MOST_BYTES) // least * least
    return Terms(size, structured, allocation, several, least, most)
