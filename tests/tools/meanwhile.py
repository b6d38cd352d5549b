"""Somebody does something while virtstore is in the middle of an operation.

However fast the machine is: the agent waits (patient_agent.py) from the first report of data on
until it was done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from virtstore.progress import Progress, ProgressCallback


class Meanwhile:
    """Makes what is given as `progress`. Agents that are started from now on wait for it."""

    def __init__(self, unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        agent = Path(__file__).with_name("patient_agent.py")
        argv = [sys.executable, str(agent), str(unfinished)]
        monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(argv))
        self._unfinished = unfinished

    def __call__(self, act: Callable[[], object], *, part: float = 0) -> ProgressCallback:
        """Acts once, when this part of it is done, or the first bytes."""
        self._unfinished.write_text(str(part))

        def told(event: Progress) -> None:
            if event.done and event.done >= part * event.total and self._unfinished.exists():
                try:
                    act()
                finally:
                    self._unfinished.unlink()

        return told
