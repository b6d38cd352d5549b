"""A process that removes a copy's snapshot when the agent that made it is gone.

The agent holds the other end of a pipe. However the agent ends, killed included, that end
closes; what is then still there of its snapshot is removed. An agent that has removed it
itself dismisses its guard. Should the whole machine stop, the next agent does it
(`VolumeGroup.mend`).
"""

from __future__ import annotations

import sys
import time

from virtstore import run
from virtstore.errors import Error, NotFound
from virtstore.own_programs import module_argv


class Guard:
    """The agent's side of it: starts the process."""

    def __init__(self, group: str, name: str) -> None:
        argv = [*module_argv("virtstore.backends.lvm.guard"), group, name]
        self._process = run.companion(argv)

    def dismiss(self) -> None:
        """End the process: the snapshot is gone."""
        self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def watch(group: str, name: str) -> None:
    """Wait for the agent's end, then remove the snapshot, however busy it still is."""
    from virtstore.backends.lvm.volume_group import VolumeGroup

    sys.stdin.buffer.read()
    for attempt in range(10):
        try:
            VolumeGroup(group).drop(name)
            return
        except NotFound:
            return
        except Error:
            time.sleep(0.3 * attempt)


def main() -> None:
    watch(*sys.argv[1:])


if __name__ == "__main__":
    main()
