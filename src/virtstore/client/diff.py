"""`diff`: two images compared by digests that each host makes of its own.

First the digests of chunks; then, only of chunks that differ, those of 4 KiB blocks.
What moves is digests, 32 bytes for each MiB, and nothing for zeros.

A host is believed what its image holds, and no more: nothing is held for what it only claims,
and digests that are not all there are never compared.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from virtstore.client.answers import out_of_order, refuse_absurd, require
from virtstore.client.connection import Connection
from virtstore.digest import CHUNK, DIGEST_SIZE, zero_digest
from virtstore.errors import Error, spelled
from virtstore.location import canonical
from virtstore.model import Difference
from virtstore.names import KINDS
from virtstore.protocol import AnyMessage, Begin, Digests, End, HashImage

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
    hashed on both hosts, and bytes in all. Raises what a host fails with, and `ConnectionFailed`
    or `Untrue` for an answer that is none."""
    one = _Hashing(left, left_path)
    other = _Hashing(right, right_path)

    def heard() -> None:
        if one.size and other.size:
            told(min(one.hashed, other.hashed), max(one.size, other.size))

    _run(one, other, CHUNK, None, heard)
    size = max(one.size, other.size)
    shorter = min(one.size, other.size)
    differing = list(_differing(one.digests, other.digests, -(-shorter // CHUNK)))
    different = size - shorter
    for start in range(0, len(differing), _ASKED_AT_ONCE):
        chunks = tuple(differing[start : start + _ASKED_AT_ONCE])
        _run(one, other, GRANULARITY, chunks)
        different += _differing_bytes(one, other, chunks, shorter)
    told(size, size)
    told_of = tuple(filter(None, (one.remark, other.remark)))
    return Difference(one.where, other.where, size, different, GRANULARITY, told_of)


def _run(
    one: _Hashing,
    other: _Hashing,
    block: int,
    chunks: tuple[int, ...] | None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Have both hosts hash at the same time; `heard` is called meanwhile. Raises the error of the
    host that fails first, without waiting for the other."""
    failures: list[BaseException] = []

    def run_other() -> None:
        try:
            other.run(block, chunks)
        except BaseException as error:  # whatever it is: without its digests there is no answer
            failures.append(error)
            one.end()

    beside = threading.Thread(target=run_other, name="diff, beside", daemon=True)
    beside.start()
    try:
        one.run(block, chunks, heard)
    except Exception as error:
        failures.append(error)
        other.end()
    beside.join()
    if failures:
        raise failures[0]


def _differing(one: _Blocks, other: _Blocks, count: int) -> Iterator[int]:
    """The numbers of the blocks that differ, among the first `count`."""
    number = 0
    while number < count:
        if zeros := min(one.zeros_at(number), other.zeros_at(number)):
            number += zeros
            continue
        if one[number] != other[number]:
            yield number
        number += 1


def _differing_bytes(one: _Hashing, other: _Hashing, chunks: Iterable[int], shorter: int) -> int:
    """The bytes in the blocks that differ, as far as both images go."""
    total = left_at = right_at = 0
    for chunk in chunks:
        here = min(CHUNK, shorter - chunk * CHUNK)
        for block in range(-(-here // GRANULARITY)):
            if one.digests[left_at + block] != other.digests[right_at + block]:
                total += min(GRANULARITY, here - block * GRANULARITY)
        left_at += one.blocks_in(chunk)
        right_at += other.blocks_in(chunk)
    return total


class _Blocks:
    """The digests of blocks of `size` bytes, by their numbers. Of a run of zeros only its beginning
    and end are kept."""

    def __init__(self, size: int) -> None:
        self._zero = zero_digest(size)
        self._told = bytearray()  # of those outside the runs
        # Of each run: its first block, that behind its last, and the zeros up to there. One of
        # no blocks stands before the others.
        self._firsts, self._ends, self._zeros = array("Q", [0]), array("Q", [0]), array("Q", [0])
        self.count = 0

    def add(self, zeros: int, digests: bytes) -> None:
        """Add the next digests: `zeros` blocks of zeros, then those given."""
        if zeros:
            self._firsts.append(self.count)
            self._ends.append(self.count + zeros)
            self._zeros.append(self._zeros[-1] + zeros)
        self._told += digests
        self.count += zeros + len(digests) // DIGEST_SIZE

    def zeros_at(self, number: int) -> int:
        """The number of blocks of zeros in a row, from this one on."""
        return max(0, self._ends[self._run(number)] - number)

    def __getitem__(self, number: int) -> bytes:
        if self.zeros_at(number):
            return self._zero
        at = (number - self._zeros[self._run(number)]) * DIGEST_SIZE
        return bytes(self._told[at : at + DIGEST_SIZE])

    def _run(self, number: int) -> int:
        """The last run that begins at block `number` or before."""
        return bisect_right(self._firsts, number) - 1


class _Hashing:
    """One image, and the digests that its host has told so far."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self.digests = _Blocks(CHUNK)
        self.size = 0
        self.holds: str | None = None
        self.where = path

    def end(self) -> None:
        """End the session: the digests are of no use any more."""
        self._connection.end()

    def blocks_in(self, chunk: int) -> int:
        return -(-min(CHUNK, self.size - chunk * CHUNK) // GRANULARITY)

    @property
    def hashed(self) -> int:
        """The bytes that are hashed, while that is done by chunks."""
        return min(self.digests.count * CHUNK, self.size)

    def run(
        self,
        block: int,
        chunks: tuple[int, ...] | None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """Take all digests. Raises the error of the host, and `Untrue` where it tells more digests
        than there are blocks, or fewer."""
        self.digests = _Blocks(block)
        self._connection.send(HashImage(self._path, block, chunks))
        self._begin(self._connection.receive()[0], first=chunks is None)
        expected = -(-self.size // block) if chunks is None else sum(map(self.blocks_in, chunks))
        while True:
            message, payload = self._connection.receive()
            match message:
                case Digests(zeros):
                    self._learn(zeros, payload, expected)
                    heard()
                case End():
                    break
                case _:
                    raise out_of_order(message, self._connection.name)
        count, name = self.digests.count, self._connection.name
        require(count == expected, "fewer digests came than there are blocks", name)

    def _begin(self, message: AnyMessage, *, first: bool) -> None:
        if not isinstance(message, Begin):
            raise out_of_order(message, self._connection.name)
        name = self._connection.name
        refuse_absurd(message, name)
        require(message.path == canonical(self._path), f"{self._path} is {message.path}", name)
        if not first and message.size != self.size:
            raise Error("its size changed meanwhile", host=name, path=message.path)
        self.where = spelled(name, message.path)
        self.size = message.size
        self.holds = message.holds

    @property
    def remark(self) -> str | None:
        """That bytes were compared, where they are not those of a raw disk."""
        if self.holds is None or self.holds not in KINDS:
            return None
        return f"{self.where} is {KINDS[self.holds].what}: its bytes were compared"

    def _learn(self, zeros: int, digests: bytes, expected: int) -> None:
        name = self._connection.name
        fits = zeros >= 0 and not len(digests) % DIGEST_SIZE
        require(fits, "what came is a row of digests", name)
        count = self.digests.count + zeros + len(digests) // DIGEST_SIZE
        require(count <= expected, "more digests came than there are blocks", name)
        self.digests.add(zeros, digests)
