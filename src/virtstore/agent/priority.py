"""Leaving the processor and the disks to others, while a copy is made.

A thread without an I/O priority of its own has one that follows from how nice it is
(ioprio_set(2)): 10 is the sixth of eight, of which the fourth is usual. Niceness is a thread's
own in Linux, and threads and processes that are started later inherit it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

#: What `nice` without a number gives a command: as good as nothing while others want to work,
#: but enough that an LVM command, for which all others wait, ends.
_NICE: Final = 10


def lower() -> None:
    """Lower the priority of this process, with all its threads, until it ends."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, thread) < _NICE:
                os.setpriority(os.PRIO_PROCESS, thread, _NICE)
