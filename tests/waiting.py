"""Waiting for what happens soon on an idle machine, and later on a busy one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Seconds. Nothing that tests wait for takes as long, however busy the machine is.
PATIENCE: Final = 120.0


def until(happened: Callable[[], object], what: str) -> None:
    """Return once `happened()` is true. An AssertionError that names `what` if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.01)
