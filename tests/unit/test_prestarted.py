"""Processes that are started before they are asked for: each is used once, or ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import until

from virtstore.client import prestarted


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    prestarted.end()


def _wait_until(said: Callable[[], bool]) -> None:
    until(said, "the agent to have started")


def _use_up(argv: list[str]) -> int:
    process = prestarted.take(argv)
    process.communicate()
    return process.pid


def test_what_was_started_is_taken_once_by_the_same_words(tmp_path: Path) -> None:
    told = tmp_path / "told"
    argv = ["sh", "-c", f"echo $$ >> {told}; cat"]
    prestarted.start(argv)
    other = _use_up([*argv, "other"])
    first, second = _use_up(argv), _use_up(argv)
    assert len({other, first, second}) == 3
    assert sorted(told.read_text().split()) == sorted(map(str, (other, first, second)))


def test_what_nobody_takes_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    """It would live for a minute more than its input."""
    prestarted.start(["sleep", "60"])
    process = prestarted.take(["sleep", "60"])
    prestarted.start(["sleep", "60"])
    prestarted.end()
    assert process.poll() is None  # it is somebody's
    process.kill()
    process.communicate()
    assert not _children_called("sleep")


def test_what_a_process_has_started_is_not_waited_for(tmp_path: Path) -> None:
    """As ssh's ProxyCommand, it has the other end of the pipes."""
    told = tmp_path / "told"
    prestarted.start(["sh", "-c", f"sleep 60 & echo $! > {told}; exec sleep 60"])
    _wait_until(lambda: told.exists() and bool(told.read_text()))
    prestarted.end()
    child = int(told.read_text())
    os.kill(child, signal.SIGKILL)  # it is still there: the pipes had not ended


def test_what_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    prestarted.start(["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"])
    _wait_until(ready.exists)
    prestarted.end()
    assert not _children_called("sh")


def test_what_cannot_be_started_is_told_to_who_wants_it() -> None:
    prestarted.start(["/no/such/program"])
    with pytest.raises(FileNotFoundError):
        prestarted.take(["/no/such/program"])


def _children_called(name: str) -> list[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    children = [pid for task in tasks for pid in task.read_text().split()]
    return [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == name]
