"""What runs within nbdkit: it asks the virtstore that started it for each range, and nothing else.

nbdkit has a Python of its own, the system's, in which neither virtstore nor what it needs is
installed. So this file imports Python's own modules only, and any from 3.7 on can read it. It gets
these parameters: `fd`, the socket to virtstore; `size`, of the image; `socket`, the path of the
socket that nbdkit serves, which this removes once virtstore has gone; and `directory`, which is
removed with it, where it was made for it.

A question is a kind (`r` to read, `m` for a map, `o` for one run of that), an offset and a length.
Answers come in the order of the questions, in one or more parts: a kind, the bytes of the image
that it is about, the bytes that follow, and these. `d` are data, `z` zeros, `e` is an error, `m`
are runs, each a length and whether it is zeros. Of a map there is one part, which may be shorter
than what was asked.

Sources: nbdkit-python-plugin(3), API version 2; prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
from collections.abc import Callable

import nbdkit

API_VERSION = 2

_QUESTION = struct.Struct(">cQI")
_PART = struct.Struct(">cII")
_RUN = struct.Struct(">I?")
_MOST = 1 << 31  # bytes of one map
_PR_SET_PDEATHSIG = 1


class Virtstore:
    """The other end. A thread asks, and then waits for its turn to take the answer."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.size = int(parameters["size"])
        self._path = parameters["socket"]
        self._directory = parameters.get("directory")
        self._socket = socket.socket(fileno=int(parameters["fd"]))
        made = os.stat(self._path)
        self._made = made.st_dev, made.st_ino
        self._asking = threading.Lock()  # another one: whoever cannot ask must keep nobody waiting
        self._turn = threading.Condition()
        self._asked = 0
        self._answered = 0

    def read(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with what the image has from `offset` on."""
        self._ask(b"r", offset, len(buffer), lambda: self._take_bytes(buffer))

    def map(self, offset: int, length: int, *, one: bool) -> list[tuple[int, bool]]:
        """The beginning of a range as runs: bytes, and whether they are zeros."""
        runs: list[tuple[int, bool]] = []
        self._ask(b"o" if one else b"m", offset, length, lambda: runs.extend(self._take_runs()))
        return runs

    def listens(self) -> None:
        """Tell it that nbdkit listens."""
        self._socket.sendall(b"+")

    def end_with_it(self) -> None:
        """Wait until it has gone, and end then, whoever is connected."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        poll.poll()
        self.remove()
        os._exit(0)

    def remove(self) -> None:
        """Remove the socket that nbdkit serves, and its directory."""
        try:
            found = os.lstat(self._path)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(self._path)
            if self._directory:
                os.rmdir(self._directory)
        except OSError:
            pass  # virtstore was faster

    def _ask(self, kind: bytes, offset: int, length: int, take: Callable[[], None]) -> None:
        with self._asking:
            self._socket.sendall(_QUESTION.pack(kind, offset, length))
            mine = self._asked
            self._asked += 1
        with self._turn:
            self._turn.wait_for(lambda: self._answered == mine)
        try:
            take()
        finally:
            with self._turn:
                self._answered += 1
                self._turn.notify_all()

    def _take_bytes(self, rest: memoryview) -> None:
        failed = False
        while len(rest):
            kind, length, _ = self._part()
            if kind == b"d":
                self._fill(rest[:length])
            elif kind == b"z":
                rest[:length] = bytes(length)
            else:
                failed = True
            rest = rest[length:]
        if failed:
            raise OSError("it cannot be read; virtstore has said why")

    def _take_runs(self) -> list[tuple[int, bool]]:
        _, _, size = self._part()
        told = bytearray(size)
        self._fill(memoryview(told))
        return list(_RUN.iter_unpack(told))

    def _part(self) -> tuple[bytes, int, int]:
        head = bytearray(_PART.size)
        self._fill(memoryview(head))
        kind, length, following = _PART.unpack(head)
        return kind, length, following

    def _fill(self, rest: memoryview) -> None:
        while len(rest):
            count = self._socket.recv_into(rest)
            if not count:
                raise OSError("virtstore has gone")
            rest = rest[count:]


_parameters: dict[str, str] = {}
_found: list[Virtstore] = []


# What nbdkit calls, by these names ---------------------------------------------------------


def config(key: str, value: str) -> None:
    _parameters[key] = value


def thread_model() -> int:
    model: int = nbdkit.THREAD_MODEL_PARALLEL
    return model


def after_fork() -> None:
    """The socket is there by now, and nbdkit listens."""
    # A foreground nbdkit asks to be ended with the thread that started it, which need not last.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    virtstore = Virtstore(_parameters)
    _found.append(virtstore)
    threading.Thread(target=virtstore.end_with_it, daemon=True).start()
    virtstore.listens()


def cleanup() -> None:
    """nbdkit ends by itself: somebody told it to."""
    for virtstore in _found:
        virtstore.remove()


def open(readonly: bool) -> Virtstore:
    return _found[0]


def get_size(virtstore: Virtstore) -> int:
    return virtstore.size


def can_write(virtstore: Virtstore) -> bool:
    return False


def can_multi_conn(virtstore: Virtstore) -> bool:
    return True


def can_extents(virtstore: Virtstore) -> bool:
    return True


def block_size(virtstore: Virtstore) -> tuple[int, int, int]:
    return 1, 64 << 10, 32 << 20


def pread(virtstore: Virtstore, buffer: bytearray, offset: int, flags: int) -> None:
    virtstore.read(memoryview(buffer), offset)


def extents(
    virtstore: Virtstore, count: int, offset: int, flags: int
) -> list[tuple[int, int, int]]:
    found = []
    one = bool(flags & nbdkit.FLAG_REQ_ONE)
    for length, zero in virtstore.map(offset, min(count, _MOST), one=one):
        found.append((offset, length, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO if zero else 0))
        offset += length
    return found
