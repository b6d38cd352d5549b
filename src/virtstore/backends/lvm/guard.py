"""A process that removes a copy's snapshot when the agent that made it is gone.

The agent holds the other end of a pipe. However the agent ends, killed included, that end
closes; what is then still there of its snapshot is removed. An agent that has removed it
itself dismisses its guard. Should the whole machine stop, the next agent does it
(`VolumeGroup.mend`).
"""

from __future__ import annotations

from virtstore import run
from virtstore.own_programs import module_argv


class Guard:
    """The agent's side of it: starts the process."""

    def __init__(self, group: str, name: str) -> None:
        argv = [*module_argv("virtstore.backends.lvm.watch"), group, name]
        self._process = run.companion(argv)

    def dismiss(self) -> None:
        """End the process: the snapshot is gone."""
        self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
