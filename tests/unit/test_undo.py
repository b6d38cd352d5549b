"""A change that fails is undone, unless a tool is still at it."""

from __future__ import annotations

import pytest

from virtstore.errors import Error, Interrupted, LeftRunning, NoSpace
from virtstore.undo import undone_by


@pytest.mark.parametrize("error", [Error("no"), OSError(5, "I/O error"), KeyboardInterrupt()])
def test_what_failed_is_undone_once_and_its_error_is_raised(error: BaseException) -> None:
    done: list[str] = []
    with pytest.raises(type(error)) as raised, undone_by(lambda: done.append("undone")):
        raise error
    assert raised.value is error
    assert done == ["undone"]


def test_what_succeeded_stays() -> None:
    done: list[str] = []
    with undone_by(lambda: done.append("undone")):
        done.append("changed")
    assert done == ["changed"]


def test_nothing_is_taken_away_from_a_tool_that_goes_on() -> None:
    done: list[str] = []
    with pytest.raises(LeftRunning), undone_by(lambda: done.append("undone")):
        raise LeftRunning("resize2fs goes on")
    assert done == []


@pytest.mark.parametrize("failure", [NoSpace("the disk is full"), OSError(28, "the disk is full")])
def test_an_undoing_that_fails_is_told_with_the_error(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def undo() -> None:
        raise failure

    with pytest.raises(Interrupted) as raised, undone_by(undo):
        raise Interrupted("Ctrl-C")
    assert "Ctrl-C; putting things back failed, too: " in raised.value.message
    assert "the disk is full" in raised.value.message
    assert "the disk is full" in caplog.text
