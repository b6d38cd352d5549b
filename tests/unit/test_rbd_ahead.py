"""What is found out ahead: its result, or its failure, is whoever's who asks for it."""

from __future__ import annotations

import threading

import pytest

from virtstore.backends.rbd.ahead import Ahead
from virtstore.errors import Denied


def test_a_result_is_waited_for_and_stays() -> None:
    go_on = threading.Event()
    found = Ahead(lambda: go_on.wait() and 7)
    go_on.set()
    assert found.result() == 7
    assert found.result() == 7


def test_a_failure_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> int:
        raise Denied("nobody may")

    found = Ahead(fail)
    with pytest.raises(Denied, match="nobody may"):
        found.result()
