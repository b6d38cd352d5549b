"""What a copy reads of something far away is fetched ahead: all of it right, several at once, and
no more than is going to be read."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator

import pytest
from tests import waiting

from virtstore.backends import read_ahead
from virtstore.backends.read_ahead import ReadAhead
from virtstore.model import Extent

#: A thousandth of the true size.
BLOCK = 4 << 10
SIZE = 30 * BLOCK + 711
STEP = 1 << 10
#: What `transfer.page_cache.Reading` announces beside what is read next.
AHEAD = 8 * BLOCK


class Far:
    """Something far away: what is asked of it, and how much of that at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self.open = threading.Event()
        self.open.set()
        self.broken: set[int] = set()

    def fetch(self, offset: int, length: int) -> bytes:
        with self._lock:
            self.asked.append((offset, length))
            self._now += 1
            self.most = max(self.most, self._now)
        self.open.wait(waiting.PATIENCE)
        with self._lock:
            self._now -= 1
        if offset // BLOCK in self.broken:
            raise OSError(errno.EIO, "it is broken there")
        return contents(offset, min(length, SIZE - offset))


def contents(offset: int, length: int) -> bytes:
    """What there is: each word of 8 bytes is its own number."""
    first, last = offset // 8, -(-(offset + length) // 8)
    words = b"".join(number.to_bytes(8) for number in range(first, last))
    return words[offset - 8 * first :][:length]


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def ahead(far: Far, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadAhead]:
    monkeypatch.setattr(read_ahead, "BLOCK", BLOCK)
    ahead = ReadAhead(SIZE, far.fetch)
    yield ahead
    far.open.set()
    ahead.close()


def pass_through(ahead: ReadAhead, step: int, first: int = 0, end: int = SIZE) -> None:
    """Read a part as a copy does, and see that it is right."""
    for offset in range(first, end, step):
        ahead.not_cached(offset, step + AHEAD)
        length = min(step, SIZE - offset)
        assert ahead.read(offset, step) == contents(offset, length)


def test_what_is_read_is_what_there_is_wherever_a_read_begins_and_ends(ahead: ReadAhead) -> None:
    choose = random.Random(1)
    position = 0
    while position < SIZE:
        length = choose.randrange(1, 3 * BLOCK)
        ahead.not_cached(position, length + AHEAD)
        begin = max(position - choose.randrange(BLOCK), 0)
        assert ahead.read(begin, 500) == contents(begin, min(500, SIZE - begin))
        across = position - position % BLOCK + BLOCK - 10
        assert ahead.read(across, 20) == contents(across, max(min(20, SIZE - across), 0))
        position += length
    assert ahead.read(SIZE - 10, 100) == contents(SIZE - 10, 10)
    assert ahead.read(SIZE, 100) == b""


def test_several_blocks_are_fetched_at_once_and_each_only_once(ahead: ReadAhead, far: Far) -> None:
    far.open.clear()
    ahead.not_cached(STEP, AHEAD)
    waiting.until(lambda: far.most == 4, "four at once")
    far.open.set()
    pass_through(ahead, STEP, STEP)
    assert sorted(far.asked) == [
        (offset, min(BLOCK, SIZE - offset)) for offset in range(0, SIZE, BLOCK)
    ]


def test_who_only_looks_at_the_beginning_has_nothing_else_fetched(
    ahead: ReadAhead, far: Far
) -> None:
    ahead.not_cached(0, 16 + AHEAD)
    assert ahead.read(0, 16) == contents(0, 16)
    assert far.asked == [(0, 16)]
    assert not ahead.begun


def test_nothing_is_fetched_beyond_what_was_announced_nor_where_nobody_reads(
    ahead: ReadAhead, far: Far
) -> None:
    ahead.expect(
        [
            Extent(0, 1, "data"),
            Extent(1, 3 * BLOCK - 2, "zero"),
            Extent(3 * BLOCK - 1, 1, "unknown"),
            Extent(3 * BLOCK, 3 * BLOCK, "zero"),
            Extent(6 * BLOCK, BLOCK + 1, "data"),
            Extent(7 * BLOCK + 1, SIZE, "data"),  # it was made longer since
        ]
    )
    ahead.not_cached(STEP, AHEAD)
    waiting.until(lambda: len(far.asked) == 5, "five blocks")
    ahead.close()
    assert sorted(far.asked) == [(number * BLOCK, BLOCK) for number in (0, 2, 6, 7, 8)]


def test_what_lies_between_two_parts_that_are_read_is_not_fetched(
    ahead: ReadAhead, far: Far
) -> None:
    pass_through(ahead, STEP, STEP, 2 * STEP)
    pass_through(ahead, STEP, 25 * BLOCK, 26 * BLOCK)
    ahead.close()
    assert not {offset // BLOCK for offset, _ in far.asked} & set(range(9, 18))


def test_what_is_kept_is_bounded(ahead: ReadAhead, far: Far) -> None:
    pass_through(ahead, BLOCK, BLOCK)
    before = len(far.asked)
    assert ahead.read(0, 10) == contents(0, 10)  # long let go of
    assert far.asked[before:] == [(0, 10)]
    assert len(ahead._blocks) <= 12


def test_a_block_that_cannot_be_fetched_fails_who_reads_it_and_nobody_else(
    ahead: ReadAhead, far: Far
) -> None:
    far.broken = {3}
    ahead.not_cached(STEP, AHEAD)
    with pytest.raises(OSError, match="broken there"):
        ahead.read(3 * BLOCK + 5, 5)
    assert ahead.read(2 * BLOCK, BLOCK) == contents(2 * BLOCK, BLOCK)
    assert ahead.read(4 * BLOCK, BLOCK) == contents(4 * BLOCK, BLOCK)


def test_it_is_fetched_ahead_again_by_who_reads_it_again(ahead: ReadAhead, far: Far) -> None:
    for _ in range(2):
        far.asked.clear()
        ahead.not_cached(0, AHEAD)
        pass_through(ahead, STEP, STEP, 8 * BLOCK)
        assert all(length == BLOCK for _, length in far.asked)


def test_who_waits_for_a_block_is_answered_though_it_is_closed(ahead: ReadAhead, far: Far) -> None:
    far.open.clear()
    ahead.not_cached(STEP, AHEAD)
    waiting.until(lambda: far.most == 4, "four at once")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(ahead.read(7 * BLOCK, 10)))
    reader.start()  # of a block that nobody fetches yet
    closing = threading.Thread(target=ahead.close)
    closing.start()
    far.open.set()
    closing.join(waiting.PATIENCE)
    reader.join(waiting.PATIENCE)
    assert read == [contents(7 * BLOCK, 10)]
    ahead.not_cached(20 * BLOCK, AHEAD)  # nor does it begin again
    assert ahead.read(20 * BLOCK, 10) == contents(20 * BLOCK, 10)
