"""How few requests the ranges of an object cost, and that they are the right ones."""

from __future__ import annotations

import random
import threading

import pytest

from virtstore.backends.bucket.reading import Ranges
from virtstore.transfer.page_cache import Reading

MIB = 1 << 20


class Object:
    """Bytes, and what was asked for of them."""

    def __init__(self, size: int) -> None:
        self.data = random.Random(size).randbytes(size)
        self.asked: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self.ranges = Ranges(size, self.fetch)
        self.size = size
        self.cache = self.ranges

    def fetch(self, start: int, length: int) -> bytes:
        assert 0 <= start < start + length <= len(self.data)
        with self._lock:
            self.asked.append((start, length))
        return self.data[start : start + length]


@pytest.mark.parametrize("size", [1, 9, 64 << 10, (256 << 10) + 1, 9 * MIB + 5])
def test_any_range_is_what_lies_there(size: int) -> None:
    there = Object(size)
    choose = random.Random(1)
    for _ in range(100):
        offset, length = choose.randrange(size + 10), choose.randrange(1, 2 * MIB)
        assert there.ranges.read(offset, length) == there.data[offset : offset + length]
    there.ranges.close()


def test_the_end_of_a_small_object_is_one_request() -> None:
    there = Object(200 << 10)
    for offset in (there.size - 9, there.size - 60, 100 << 10, 0):
        there.ranges.read(offset, 9)
    assert len(there.asked) == 2  # and one for its beginning


def test_an_end_that_is_read_backwards_is_fetched_in_large_pieces() -> None:
    there = Object(40 * MIB)
    for offset in (there.size - 9, there.size - 2 * MIB, there.size - MIB, there.size - 300_000):
        assert there.ranges.read(offset, 50_000) == there.data[offset : offset + 50_000]
    assert len(there.asked) == 2


def test_a_read_elsewhere_asks_for_no_more_than_that() -> None:
    there = Object(60 * MIB)
    there.ranges.read(20 * MIB + 7, 1000)
    assert there.asked == [(20 * MIB + 7, 1000)]


def test_a_copy_is_served_by_large_ranges_and_each_byte_is_asked_for_once() -> None:
    there = Object(150 * MIB + 12345)
    reading = Reading(there)  # type: ignore[arg-type]
    reading.next(0, 256)
    step = 700_001
    for offset in range(0, there.size, step):
        reading.next(offset, step)
        assert there.ranges.read(offset, step) == there.data[offset : offset + step]
    there.ranges.close()
    assert len(there.asked) <= 150 // 4 + 4
    assert sum(length for _, length in there.asked) <= there.size + 2 * MIB


def test_an_error_of_a_range_is_told_to_who_reads_it() -> None:
    there = Object(60 * MIB)

    def fail(start: int, length: int) -> bytes:
        raise OSError("cut")

    ranges = Ranges(there.size, fail)
    ranges.not_cached(1, 40 * MIB)
    with pytest.raises(OSError, match="cut"):
        ranges.read(20 * MIB, 10)
    ranges.close()
