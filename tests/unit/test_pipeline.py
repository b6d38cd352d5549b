"""Pipelines: results in order, the first failure where it belongs, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import PATIENCE

from virtstore.transfer.pipeline import WORKERS, in_order


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(delays: list[int], batch: int) -> None:
    def work(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 10_000)
        return item[0]

    assert list(in_order(work, enumerate(delays), batch=batch)) == list(range(len(delays)))


def test_work_is_done_by_several_threads_at_once() -> None:
    together = threading.Barrier(min(2, WORKERS), timeout=PATIENCE)
    list(in_order(lambda _: together.wait(), range(2)))


@pytest.mark.parametrize("batch", [1, 4])
def test_no_more_is_read_ahead_than_was_allowed(batch: int) -> None:
    started = 0

    def items() -> Iterator[int]:
        nonlocal started
        for number in range(100):
            started += 1
            yield number

    results = in_order(lambda item: item, items(), depth=5, batch=batch)
    for taken in range(20):
        assert next(results) == taken
        assert started <= taken + (1 + 5) * batch
    results.close()


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_failure_of_the_work_is_raised_where_its_result_would_have_come(batch: int) -> None:
    def work(item: int) -> int:
        if item >= 3:
            raise ValueError(item)
        time.sleep(0.01)
        return item

    results = in_order(work, range(100), batch=batch)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^3$"):
        next(results)


def test_a_failure_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(in_order(lambda item: item, items()))


@pytest.mark.parametrize("batch", [1, 4])
def test_after_a_failure_nothing_more_is_started(batch: int) -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        if item == 0:
            raise ValueError
        return item

    with pytest.raises(ValueError, match=r"^$"):
        list(in_order(work, range(1000), depth=4, batch=batch))
    assert len(started) <= 5 * batch


def test_whoever_stops_early_leaves_no_thread_at_work() -> None:
    working, before = threading.Event(), set(threading.enumerate())

    def work(item: int) -> int:
        working.set()
        time.sleep(0.02)
        working.clear()
        return item

    results = in_order(work, range(1000))
    assert next(results) == 0
    results.close()
    assert not working.is_set()
    assert set(threading.enumerate()) <= before


def test_no_items_give_no_results() -> None:
    assert list(in_order(lambda item: item, [])) == []
