"""One connection to an NBD server, on which one thing at a time is asked.

Nothing that the server says is believed: not its lengths, nor that it answers what it was asked.
Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Transmission",
"Structured reply chunk message", "`base:allocation` metadata context".
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from virtstore.backends.nbd.handshake import agree, lies
from virtstore.backends.nbd.stream import Stream
from virtstore.model import Extent
from virtstore.text import remark

_REQUEST: Final = struct.Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_READ: Final = 0
_DISCONNECT: Final = 2
_BLOCK_STATUS: Final = 7

_SIMPLE_MAGIC: Final = 0x67446698
_SIMPLE: Final = struct.Struct(">IIQ")
_CHUNK_MAGIC: Final = 0x668E33EF
_CHUNK: Final = struct.Struct(">IHHQI")
_DONE: Final = 1
_NONE: Final = 0
_OFFSET_DATA: Final = 1
_OFFSET_HOLE: Final = 2
_STATUS: Final = 5
_ERROR: Final = 1 << 15
_LONGEST_ERROR: Final = 8 << 10

_ZERO: Final = 2  # NBD_STATE_ZERO: it reads as zeros
_EXTENT: Final = struct.Struct(">II")
_MOST_EXTENTS: Final = 1 << 20

#: What the protocol's error numbers are called; they are Linux's. Any other is EIO.
_ERRORS: Final = frozenset(
    {errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.ESHUTDOWN}
)


class Connection:
    """See above. Where it raises anything but an `OSError`, it is good for nothing but to be
    closed."""

    def __init__(self, path: str, export: str, patience: float) -> None:
        self._stream = Stream(path, patience)
        self._cookie = 0
        try:
            self.terms = agree(self._stream, export)
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))

    def read(self, offset: int, length: int) -> bytearray:
        """`length` bytes. Raises `OSError` if the server could not read them."""
        self._ask(_READ, offset, length)
        data = bytearray(length)
        if self.terms.structured:
            answer = _Contents(offset, memoryview(data), self._stream)
            self._take(answer.chunk)
            answer.require_whole()
        else:
            self._take_simple(memoryview(data))
        return data

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What the server says of a range's beginning: at least one extent. They may end before
        the range does, and behind it."""
        self._ask(_BLOCK_STATUS, offset, length)
        told: list[bytes] = []

        def take(kind: int, size: int) -> None:
            if kind != _STATUS or told or size % 8 != 4 or not 12 <= size <= 4 + 8 * _MOST_EXTENTS:
                lies("it does not tell which parts are data")
            told.append(self._stream.take(size))

        self._take(take)
        if not told or int.from_bytes(told[0][:4]) != self.terms.allocation:
            lies("it does not tell which parts are data")
        for size, flags in _EXTENT.iter_unpack(told[0][4:]):
            if size == 0:
                lies("it tells of a part of no bytes")
            yield Extent(offset, size, "zero" if flags & _ZERO else "data")
            offset += size

    def _ask(self, what: int, offset: int, length: int) -> None:
        self._cookie += 1
        self._stream.ask(_REQUEST.pack(_REQUEST_MAGIC, 0, what, self._cookie, offset, length))

    def _take_simple(self, view: memoryview) -> None:
        magic, error, cookie = _SIMPLE.unpack(self._stream.take(_SIMPLE.size))
        if magic != _SIMPLE_MAGIC or cookie != self._cookie:
            lies("its answer is none to what it was asked")
        if error:
            raise _failed(error)
        self._stream.take_into(view)

    def _take(self, chunk: Callable[[int, int], None]) -> None:
        """Take in a structured reply; `chunk` takes what is in each chunk of this kind and length.
        Raises the error that the server tells, once its answer is over."""
        failure: OSError | None = None
        flags = 0
        while not flags & _DONE:
            magic, flags, kind, cookie, length = _CHUNK.unpack(self._stream.take(_CHUNK.size))
            if magic != _CHUNK_MAGIC or cookie != self._cookie:
                lies("its answer is none to what it was asked")
            if kind & _ERROR:
                failure = self._take_error(length)
            elif kind != _NONE:
                chunk(kind, length)
            elif length or not flags & _DONE:
                lies("it says nothing, and goes on")
        if failure:
            raise failure

    def _take_error(self, length: int) -> OSError:
        if not 6 <= length <= _LONGEST_ERROR:
            lies("it tells an error of which nothing is known")
        told = self._stream.take(length)
        said = int.from_bytes(told[4:6])
        return _failed(int.from_bytes(told[:4]), told[6 : 6 + said])


class _Contents:
    """Puts together what a server reads in parts, in any order. `view`: the room for them."""

    def __init__(self, offset: int, view: memoryview, stream: Stream) -> None:
        self._offset = offset
        self._view = view
        self._stream = stream
        self._parts: list[tuple[int, int]] = []
        self._left = len(view)

    def chunk(self, kind: int, size: int) -> None:
        """Take in a chunk's contents, `size` bytes of them."""
        if kind == _OFFSET_DATA and 8 < size <= 8 + self._left:
            start, length = int.from_bytes(self._stream.take(8)), size - 8
        elif kind == _OFFSET_HOLE and size == 12:
            start, length = struct.unpack(">QI", self._stream.take(12))
        else:
            lies("its answer is none to what it was asked")
        start -= self._offset
        if start < 0 or not 0 < length <= self._left or start + length > len(self._view):
            lies("it sends what it was not asked for")
        self._left -= length
        self._parts.append((start, length))
        if kind == _OFFSET_DATA:  # a hole is zeros already
            self._stream.take_into(self._view[start : start + length])

    def require_whole(self) -> None:
        """Raises `Corrupt` unless the parts are the whole, each once."""
        position = 0
        for start, length in sorted(self._parts):
            if start != position:
                lies("it sends something twice, and leaves something out")
            position += length
        if self._left:
            lies("it sends less than it was asked for")


def _failed(number: int, said: bytes = b"") -> OSError:
    number = number if number in _ERRORS else errno.EIO
    why = os.strerror(number)
    return OSError(number, f"{why} (the NBD server: {remark(said)})" if said else why)
