"""What an NBD server exports, as an image that can be read.

Several threads read it side by side, each by a connection of its own, where the server allows that;
else they take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.backends.base import Readable, Version
from virtstore.backends.nbd.connection import Connection
from virtstore.backends.nbd.handshake import lies
from virtstore.errors import ConnectionFailed
from virtstore.model import Extent

#: Seconds that a server may take for one answer. A disk of a loaded host takes its time; one that
#: hangs for as long is not read any more.
PATIENCE: Final = 60.0
_MOST_CONNECTIONS: Final = 8
#: Bytes about which a server is asked at once whether they are zeros.
_STRETCH: Final = 1 << 30


class Export(Readable):
    """The export called `name` of the server on the unix socket `path`. Raises `NotFound`,
    `ConnectionFailed`, and `Corrupt` where the server does not keep to the protocol."""

    def __init__(self, path: str, name: str = "", *, patience: float = PATIENCE) -> None:
        self._where = path, name, patience
        self._changed = threading.Condition()
        first = Connection(*self._where)
        self._terms = first.terms
        self._idle = [first]
        self._made = 1
        self._most = _MOST_CONNECTIONS if first.terms.several else 1
        self._closed = False

    @property
    def size(self) -> int:
        return self._terms.size

    @property
    def version(self) -> Version:
        return Version(("nbd", *self._where[:2]))

    def read_at(self, offset: int, length: int) -> bytes:
        """See `backends.base.Readable`."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        least = self._terms.least
        start = offset // least * least
        stop = -(-end // least) * least  # within the size, which is a multiple too
        read = b"".join(self._pieces(start, stop))
        return read[offset - start : end - start]

    def _pieces(self, start: int, stop: int) -> Iterator[bytearray]:
        with self._connection() as connection:
            for position in range(start, stop, self._terms.most):
                yield connection.read(position, min(self._terms.most, stop - position))

    def extents(self) -> Iterator[Extent]:
        """See `backends.base.Readable`."""
        if self._terms.allocation is None:
            yield from super().extents()
            return
        position = 0
        while position < self.size:
            for extent in self._told(position):
                length = min(extent.length, self.size - position)
                if length:
                    yield Extent(position, length, extent.kind)
                position += length

    def _told(self, position: int) -> list[Extent]:
        least = self._terms.least
        stretch = min(_STRETCH, self.size - position)
        with self._connection() as connection:
            told = list(connection.extents(position, stretch))
        if any(extent.length % least for extent in told):
            lies("it tells of parts of blocks")
        return told

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection that nobody else uses meanwhile. One that failed is not used again."""
        connection = self._taken()
        try:
            yield connection
        except OSError:  # the server told it, and goes on
            self._give_back(connection)
            raise
        except BaseException:
            self._give_up(connection)
            raise
        self._give_back(connection)

    def _taken(self) -> Connection:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._made < self._most or self._closed)
            if self._closed:
                raise ConnectionFailed("the connection to the NBD server was closed")
            if self._idle:
                return self._idle.pop()
            self._made += 1
        try:
            connection = Connection(*self._where)
        except BaseException:
            self._one_less()
            raise
        if connection.terms.same_disk != self._terms.same_disk:
            self._give_up(connection)
            lies("it tells each connection something else")
        return connection

    def _give_back(self, connection: Connection) -> None:
        with self._changed:
            if not self._closed:
                self._idle.append(connection)
                self._changed.notify()
                return
        connection.close()

    def _give_up(self, connection: Connection) -> None:
        connection.close()
        self._one_less()

    def _one_less(self) -> None:
        with self._changed:
            self._made -= 1
            self._changed.notify()

    def close(self) -> None:
        """End all connections."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for connection in idle:
            connection.close()
