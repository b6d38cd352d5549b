"""The process of a guard (guard.py): it begins something with a domain, and ends it however the
agent ends.

On standard output it tells in a line each: that it has begun, or why not; what ended it early; and
that all is as it was before. It is not to be stopped on its way: it ends by itself, soon after the
agent.
"""

from __future__ import annotations

import select
import signal
import sys
from contextlib import suppress
from typing import Final

import msgspec

from virtstore.errors import Error
from virtstore.libvirt.guard import Task, Told

#: Seconds between two looks.
_EVERY: Final = 0.2


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(msgspec.json.decode(sys.argv[1], type=Task))


def guard(task: Task) -> None:
    """Begin a task, wait for the agent's end, and end it."""
    try:
        try:
            _tell(Told(begun=True, warning=task.begin()))
            while not select.select([sys.stdin], [], [], _EVERY)[0]:
                task.look()
        finally:
            task.end()
        _tell(Told())
    except Error as error:
        _tell(Told(code=error.code, message=error.message))


def _tell(told: Told) -> None:
    with suppress(OSError):  # the agent is gone
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
