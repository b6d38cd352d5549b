"""Several locations at the same time: in order, no more than asked for, and all ended together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from tests.waiting import PATIENCE

from virtstore.cli.options import Common
from virtstore.cli.several import AtOnce, for_each
from virtstore.errors import Error, NotFound


class Ended(Error):
    """What a session fails with that was ended from outside."""


class Work:
    """What each thread does: it waits until it is let go, or all are ended."""

    def __init__(self) -> None:
        self.may_end = {number: threading.Event() for number in range(5)}
        self.aborted = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, number: int) -> str:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            assert self.may_end[number].wait(PATIENCE)
        finally:
            with self._lock:
                self.running -= 1
        if self.aborted.is_set():
            raise Ended("ended")
        if number == 1:
            raise NotFound("no such image", path="/1")
        return f"line {number}"

    def abort(self) -> None:
        self.aborted.set()
        self.let_go(*self.may_end)

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self.may_end[number].set()


@pytest.fixture
def work() -> Work:
    return Work()


def done(work: Callable[[int], str], abort: Callable[[], None], jobs: int = 2) -> int:
    together = AtOnce(jobs, abort, nullcontext)
    return for_each(range(5), work, lambda line: line, Common(), together=together)


def test_results_come_in_the_order_of_the_locations_and_no_more_run_than_asked_for(
    work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    work.let_go(4, 3, 2, 1)
    threading.Timer(0.1, work.let_go, (0,)).start()
    assert done(work, work.abort) == NotFound.exit_status
    out, err = capsys.readouterr()
    assert out.splitlines() == ["line 0", "line 2", "line 3", "line 4"]
    assert "no such image" in err
    assert work.most == 2
    assert not work.aborted.is_set()


def test_a_defect_in_one_thread_wakes_those_that_wait(work: Work) -> None:
    def broken(number: int) -> str:
        if number == 1:
            raise ZeroDivisionError
        return work(number)

    with pytest.raises(ZeroDivisionError):
        done(broken, work.abort)
    assert work.aborted.is_set()
    assert work.running == 0


def test_ctrl_c_ends_what_all_threads_do(work: Work) -> None:
    class Line(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise KeyboardInterrupt

    def first(number: int) -> str:
        return Line() if number == 0 else work(number)

    with pytest.raises(KeyboardInterrupt):
        done(first, work.abort)
    assert work.aborted.is_set()
    assert work.running == 0
