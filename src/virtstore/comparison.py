"""`diff`: two images compared by digests that each host makes of its own.

First the digests of chunks; then, only of chunks that differ, those of 4 KiB blocks.
What moves is digests, 32 bytes for each MiB, and nothing for zeros.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from virtstore.connection import Connection
from virtstore.digest import CHUNK, DIGEST_SIZE, zero_digest
from virtstore.errors import ConnectionFailed, Error
from virtstore.model import Difference
from virtstore.protocol import Begin, Digests, End, HashImage

#: Bytes of a block: what a guest's file system usually writes at once.
GRANULARITY: Final = 4096
#: Chunks in one request: their numbers fit a message.
_ASKED_AT_ONCE: Final = 10_000


def compare(
    left: Connection,
    left_path: str,
    right: Connection,
    right_path: str,
    told: Callable[[int, int], None],
) -> Difference:
    """How many bytes of two images differ; see `model.Difference`. `told` gets bytes that are
    hashed on both hosts, and bytes in all."""
    one = _Hashing(left, left_path)
    other = _Hashing(right, right_path)

    def heard() -> None:
        if one.size and other.size:
            told(min(one.hashed, other.hashed), max(one.size, other.size))

    _run(one, other, CHUNK, None, heard)
    size = max(one.size, other.size)
    shorter = min(one.size, other.size)
    differing = [
        number
        for number in range(-(-shorter // CHUNK))
        if one.digest(number) != other.digest(number)
    ]
    different = size - shorter
    for start in range(0, len(differing), _ASKED_AT_ONCE):
        chunks = tuple(differing[start : start + _ASKED_AT_ONCE])
        _run(one, other, GRANULARITY, chunks)
        different += _differing_bytes(one, other, chunks, shorter)
    told(size, size)
    return Difference(one.where, other.where, size, different, GRANULARITY)


def _run(
    one: _Hashing,
    other: _Hashing,
    block: int,
    chunks: tuple[int, ...] | None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Let both hosts hash at the same time; `heard` is called while they do."""
    beside = threading.Thread(target=other.run, args=(block, chunks), daemon=True)
    beside.start()
    one.run(block, chunks, heard)
    beside.join()
    for failure in (one.failure, other.failure):
        if failure:
            raise failure


def _differing_bytes(one: _Hashing, other: _Hashing, chunks: Iterable[int], shorter: int) -> int:
    """Bytes in the blocks that differ, as far as both images go."""
    total = left_at = right_at = 0
    for chunk in chunks:
        here = min(CHUNK, shorter - chunk * CHUNK)
        for block in range(-(-here // GRANULARITY)):
            if one.digest(left_at + block) != other.digest(right_at + block):
                total += min(GRANULARITY, here - block * GRANULARITY)
        left_at += one.blocks_in(chunk)
        right_at += other.blocks_in(chunk)
    return total


class _Hashing:
    """One image, and the digests that its host has told."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._digests = bytearray()
        self.size = 0
        self.where = path
        self.failure: Error | None = None

    def digest(self, number: int) -> bytes:
        return bytes(self._digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE])

    def blocks_in(self, chunk: int) -> int:
        return -(-min(CHUNK, self.size - chunk * CHUNK) // GRANULARITY)

    @property
    def hashed(self) -> int:
        """Bytes, where it is being hashed by chunks."""
        return min(len(self._digests) // DIGEST_SIZE * CHUNK, self.size)

    def run(
        self,
        block: int,
        chunks: tuple[int, ...] | None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self._digests.clear()
        try:
            self._connection.send(HashImage(self._path, block, chunks))
            self._take(block, heard)
        except Error as error:
            self.failure = error

    def _learn(self, zeros: int, digests: bytes, block: int) -> None:
        most = -(-self.size // block)
        if zeros + (len(self._digests) + len(digests)) // DIGEST_SIZE > most:
            raise ConnectionFailed("more digests came than there are blocks", host=self.where)
        self._digests += zero_digest(block) * zeros + digests

    def _take(self, block: int, heard: Callable[[], None]) -> None:
        while True:
            message, payload = self._connection.receive()
            match message:
                case Begin(path, size):
                    name = self._connection.name
                    self.where = path if name == "local" else f"{name}:{path}"
                    self.size = size
                case Digests(zeros):
                    self._learn(zeros, payload, block)
                    heard()
                case End():
                    return
                case _:
                    raise ConnectionFailed(
                        f"a {type(message).__name__} came in answer", host=self._connection.name
                    )
