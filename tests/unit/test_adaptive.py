"""The level follows what is waited for: the compressor, the link, or neither."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from virtstore.transfer.adaptive import FALLING, AdaptiveLevel
from virtstore.transfer.pipeline import WORKERS

#: More results than it takes to step all the way down, or up.
MANY = 32 * len(FALLING)
MOMENT = 0.002


class Clock:
    """A clock that moves where it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("virtstore.transfer.adaptive.time", clock)
    return clock


def run(level: AdaptiveLevel, clock: Clock, *, disk: float, compressor: float, link: float) -> None:
    """A copy, each part of which takes so many seconds for a chunk. All threads work meanwhile."""

    def results() -> Iterator[int]:
        for number in range(MANY):
            begun = clock.now
            with level.compressing():
                clock.now += compressor
            clock.now = begun + max(0.0, (disk + compressor) / WORKERS - link)
            yield number

    for _ in level.follow(results()):
        clock.now += link


def test_it_falls_while_the_compressor_is_slow_and_rises_while_the_link_is(clock: Clock) -> None:
    level = AdaptiveLevel(FALLING)
    assert level.now == FALLING[0]
    run(level, clock, disk=0, compressor=4 * MOMENT, link=0)
    assert level.now == FALLING[-1]
    run(level, clock, disk=0, compressor=MOMENT, link=4 * MOMENT)
    assert level.now == FALLING[0]


def test_a_slow_disk_is_no_reason(clock: Clock) -> None:
    level = AdaptiveLevel(FALLING)
    run(level, clock, disk=4 * MOMENT, compressor=0, link=0)
    assert level.now == FALLING[0]


def test_one_level_stays(clock: Clock) -> None:
    level = AdaptiveLevel((7,))
    run(level, clock, disk=0, compressor=4 * MOMENT, link=0)
    assert level.now == 7


def test_results_pass_unchanged_and_so_does_a_failure() -> None:
    def results() -> Iterator[int]:
        yield from range(3)
        raise OSError("no disk")

    passed = AdaptiveLevel(FALLING).follow(results())
    assert [next(passed) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no disk"):
        next(passed)
