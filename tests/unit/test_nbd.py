"""The NBD client believes no server. The servers of these tests lie, hang and go away."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtstore.backends.nbd.export import Export
from virtstore.errors import ConnectionFailed, Corrupt, NotFound
from virtstore.model import Extent

MIB = 1 << 20
OPTION_REPLY = 0x3E889045565A9
CHUNK = 0x668E33EF
ACK, INFO, META = 1, 3, 4
DONE = 1
#: What a server of these tests does once a connection is ready: it gets cookie, type, offset and
#: length of each request and gives what it sends.
Answer = Callable[[bytes, int, int, int], bytes]


def option(kind: int, number: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", OPTION_REPLY, number, kind, len(data)) + data


def part(cookie: bytes, kind: int, data: bytes, flags: int = DONE) -> bytes:
    return struct.pack(">IHH", CHUNK, flags, kind) + cookie + struct.pack(">I", len(data)) + data


def contents(cookie: bytes, offset: int, data: bytes, flags: int = DONE) -> bytes:
    return part(cookie, 1, struct.pack(">Q", offset) + data, flags)


def honest(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
    if kind == 7:
        return part(cookie, 5, struct.pack(">III", 5, length, 0))
    return contents(cookie, offset, b"x" * length)


class Server:
    """An NBD server. `answer`: what it says to a request; `size`: what it says the size is."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answer: Answer = honest
        self.size = 4 * MIB
        self.flags = 1 << 8
        self.blocks = (1, 4096, 32 * MIB)
        self.refuses = 0
        self.connections = 0
        self.over = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as asked:
            try:
                self._agree(connection, asked.read)
                while len(request := asked.read(28)) == 28:
                    kind, cookie, offset, length = struct.unpack(">6xH8sQI", request)
                    if kind == 2:
                        return
                    connection.sendall(self.answer(cookie, kind, offset, length))
            except OSError:
                return

    def _agree(self, connection: socket.socket, read: Callable[[int], bytes]) -> None:
        connection.sendall(b"NBDMAGICIHAVEOPT\0\3")
        read(4)
        number = 0
        while number != 7:
            _, number, length = struct.unpack(">8sII", read(16))
            read(length)
            connection.sendall(self._settle(number))

    def _settle(self, number: int) -> bytes:
        if number == 10:
            return option(META, 10, struct.pack(">I", 5) + b"base:allocation") + option(ACK, 10)
        if number == 7 and self.refuses:
            return option(self.refuses, 7, b"no\x1b[2J")
        if number == 7:
            export = option(INFO, 7, struct.pack(">HQH", 0, self.size, self.flags))
            return export + option(INFO, 7, struct.pack(">HIII", 3, *self.blocks)) + option(ACK, 7)
        return option(ACK, number)

    def close(self) -> None:
        self.over.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._listening.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "nbd")
    yield server
    server.close()


def test_an_image_is_read_at_any_offset_and_ends_where_it_ends(server: Server) -> None:
    with Export(server.path) as export:
        assert export.size == 4 * MIB
        assert export.read_at(5, 7) == b"x" * 7
        assert export.read_at(4 * MIB - 3, 10) == b"x" * 3
        assert export.read_at(4 * MIB, 10) == b""
        assert list(export.extents()) == [Extent(0, 4 * MIB, "data")]


def test_a_server_that_wants_whole_blocks_is_asked_for_whole_blocks(server: Server) -> None:
    asked = []

    def answer(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return contents(cookie, offset, bytes(range(256)) * (length // 256))

    server.answer, server.blocks = answer, (512, 4096, 8192)
    with Export(server.path) as export:
        assert export.read_at(1000, 10) == bytes((1000 + n) % 256 for n in range(10))
        export.read_at(0, 20_000)
    assert asked == [(512, 512), (0, 8192), (8192, 8192), (16384, 4096)]


def test_parts_may_come_in_any_order_and_holes_are_zeros(server: Server) -> None:
    server.answer = lambda cookie, _, offset, length: (
        contents(cookie, offset + 6, b"end", 0)
        + part(cookie, 2, struct.pack(">QI", offset, 4), 0)
        + contents(cookie, offset + 4, b"in", DONE)
    )
    with Export(server.path) as export:
        assert export.read_at(100, 9) == b"\0\0\0\0inend"


def test_an_error_of_the_server_is_an_error_of_reading_and_what_follows_is_read(
    server: Server,
) -> None:
    def answer(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
        if offset:
            return honest(cookie, kind, offset, length)
        return part(cookie, 1 << 15 | 1, struct.pack(">IH", errno.EIO, 8) + b"bad \x1bdisk")

    server.answer, server.flags = answer, 0
    with Export(server.path) as export:
        with pytest.raises(OSError, match=r"bad \?dis") as caught:
            export.read_at(0, 10)
        assert caught.value.errno == errno.EIO
        assert export.read_at(10, 2) == b"xx"
    assert server.connections == 1


LIES: dict[str, Answer] = {
    "another's answer": lambda cookie, _, offset, length: contents(
        cookie[::-1], offset, b"x" * length
    ),
    "no answer at all": lambda cookie, *_: b"x" * 20,
    "less": lambda cookie, _, offset, length: contents(cookie, offset, b"x" * (length - 1)),
    "more": lambda cookie, _, offset, length: contents(cookie, offset, b"x" * (length + 1)),
    "what lies before": lambda cookie, _, offset, length: contents(cookie, offset - 1, b"x"),
    "what lies behind": lambda cookie, _, offset, length: contents(
        cookie, offset + length - 1, b"xx"
    ),
    "a part twice": lambda cookie, _, offset, length: (
        contents(cookie, offset, b"x" * (length // 2), 0) * 2 + part(cookie, 0, b"")
    ),
    "parts of nothing": lambda cookie, _, offset, __: contents(cookie, offset, b""),
    "a length without end": lambda cookie, *_: (
        struct.pack(">IHH", CHUNK, DONE, 1) + cookie + struct.pack(">I", 0xFFFFFFFF)
    ),
    "an error without end": lambda cookie, *_: (
        struct.pack(">IHH", CHUNK, DONE, 1 << 15 | 1) + cookie + struct.pack(">I", 0xFFFFFFFF)
    ),
    "nothing, for ever": lambda cookie, *_: part(cookie, 0, b"", 0) * 1000,
    "which parts are data": lambda cookie, *_: part(cookie, 5, struct.pack(">III", 5, 1, 0)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_sends_something_else_than_was_asked_for_is_not_believed(
    server: Server, lie: str
) -> None:
    server.answer = LIES[lie]
    with Export(server.path) as export, pytest.raises(Corrupt, match="does not keep to the pro"):
        export.read_at(1000, 100)


STATUS_LIES: dict[str, Answer] = {
    "nothing": lambda cookie, *_: part(cookie, 0, b""),
    "contents": lambda cookie, _, offset, __: contents(cookie, offset, b"x"),
    "another context": lambda cookie, *_: part(cookie, 5, struct.pack(">III", 6, 4096, 0)),
    "no extent": lambda cookie, *_: part(cookie, 5, struct.pack(">I", 5)),
    "an extent of nothing": lambda cookie, *_: part(cookie, 5, struct.pack(">III", 5, 0, 0)),
    "half an extent": lambda cookie, *_: part(cookie, 5, struct.pack(">II", 5, 4096)),
    "half a block": lambda cookie, *_: part(cookie, 5, struct.pack(">III", 5, 100, 0)),
    "it twice": lambda cookie, *_: part(cookie, 5, struct.pack(">III", 5, 4096, 0), 0) * 2,
}


@pytest.mark.parametrize("lie", STATUS_LIES)
def test_what_makes_no_sense_of_which_parts_are_data_is_not_believed(
    server: Server, lie: str
) -> None:
    server.answer, server.blocks = STATUS_LIES[lie], (512, 4096, MIB)
    with Export(server.path) as export, pytest.raises(Corrupt, match="does not keep to the pro"):
        list(export.extents())


def test_extents_end_with_the_image_whatever_the_server_tells_of_what_lies_behind(
    server: Server,
) -> None:
    server.answer = lambda cookie, _, offset, length: part(
        cookie, 5, struct.pack(">IIIII", 5, MIB, 3, 0xFFFFF000, 0)
    )
    with Export(server.path) as export:
        assert list(export.extents()) == [Extent(0, MIB, "zero"), Extent(MIB, 3 * MIB, "data")]


@pytest.mark.parametrize(
    ("size", "blocks"),
    [
        (1 << 63, (1, 4096, MIB)),
        (1000, (512, 4096, MIB)),
        (4096, (0, 4096, MIB)),
        (4096, (3, 4096, MIB)),
        (4 * MIB, (1 << 20, 1 << 20, MIB)),
        (4096, (1, 1, 1)),
    ],
)
def test_an_export_that_could_not_be_is_refused(
    server: Server, size: int, blocks: tuple[int, int, int]
) -> None:
    server.size, server.blocks = size, blocks
    with pytest.raises(Corrupt, match="that"):
        Export(server.path)


def test_a_server_that_hangs_is_not_waited_for_for_ever(server: Server) -> None:
    def answer(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
        server.over.wait(60)
        return b""

    server.answer = answer
    with (
        Export(server.path, patience=0.3) as export,
        pytest.raises(ConnectionFailed, match=r"no whole answer|timed out"),
    ):
        export.read_at(0, 100)


def test_a_server_that_goes_away_is_told_of(server: Server) -> None:
    def answer(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
        raise ConnectionResetError

    server.answer = answer
    with Export(server.path) as export, pytest.raises(ConnectionFailed, match="went away"):
        export.read_at(0, 100)


def test_an_export_that_is_not_there_and_one_that_is_refused_are_told_apart(
    server: Server,
) -> None:
    server.refuses = (1 << 31) + 6
    with pytest.raises(NotFound, match=r"no such export: no\?\[2J"):
        Export(server.path, "gone")
    server.refuses = (1 << 31) + 2
    with pytest.raises(ConnectionFailed, match="refuses"):
        Export(server.path, "gone")


def test_what_is_no_nbd_server_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        path = str(tmp_path / "other")
        other.bind(path)
        other.listen()

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        with pytest.raises(Corrupt, match="does not begin"):
            Export(path)
        greeting.join()
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        Export(str(tmp_path / "nothing"))


@pytest.mark.parametrize(("flags", "most"), [(0, 1), (1 << 8, 8)])
def test_several_threads_read_by_as_many_connections_as_the_server_allows(
    server: Server, flags: int, most: int
) -> None:
    server.flags = flags
    with Export(server.path) as export:
        read: list[bytes] = []
        threads = [
            threading.Thread(target=lambda n=n: read.append(export.read_at(n, 1000)))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == [b"x" * 1000] * 20
    assert 1 <= server.connections <= most


def test_who_waits_for_a_connection_is_told_when_the_only_one_fails(
    server: Server,
) -> None:
    entered, go = threading.Event(), threading.Event()

    def answer(cookie: bytes, kind: int, offset: int, length: int) -> bytes:
        entered.set()
        go.wait(60)
        raise ConnectionResetError

    server.answer, server.flags = answer, 0
    with Export(server.path) as export:
        failures: list[Exception] = []

        def read() -> None:
            try:
                export.read_at(0, 10)
            except ConnectionFailed as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert entered.wait(60)
        go.set()
        for thread in threads:
            thread.join(60)
    assert len(failures) == 3
