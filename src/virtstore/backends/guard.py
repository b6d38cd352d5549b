"""A process that removes a copy's snapshot when the agent that made it is gone.

The agent holds the other end of a pipe. However the agent ends, killed included, that end
closes; what is then still there of its snapshot is removed. An agent that has removed it
itself dismisses its guard. Should the whole machine stop, the next agent does it (`Store.mend`).

Each kind of place whose snapshots are to be removed has a module that is such a process: its
`main` takes the words that the guard was given, and calls `watch`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from virtstore import run
from virtstore.errors import Error, NotFound
from virtstore.own_programs import module_argv


class Guard:
    """The agent's side of it: starts the process, of a `module` of ours, with `words`."""

    def __init__(self, module: str, *words: str) -> None:
        self._process = run.companion([*module_argv(module), *words])

    def dismiss(self) -> None:
        """End the process: the snapshot is gone."""
        self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def watch(drop: Callable[[], None]) -> None:
    """The process: wait for the agent's end, then have `drop` remove the snapshot, however busy it
    still is."""
    sys.stdin.buffer.read()
    for attempt in range(10):
        try:
            drop()
            return
        except NotFound:
            return
        except Error:
            time.sleep(0.3 * attempt)
