"""An agent in which a function fails, in one kind of thread: a program for tests to start.

    faulty_agent.py THREAD MODULE:FUNCTION FAULT CALL [OPTION OF THE AGENT]…

From call number CALL on, in threads whose names begin with THREAD.
"""

import errno
import importlib
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtstore import channel
from virtstore.agent.__main__ import main

FAULTS: dict[str, Callable[[], BaseException]] = {
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "memory": MemoryError,
    "assertion": lambda: AssertionError("this cannot be"),
    "exit": lambda: SystemExit(3),
}


def _spoil(thread: str, where: str, fault: str, first: int) -> None:
    module, _, name = where.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for each in outer:
        owner = getattr(owner, each)
    works, calls = getattr(owner, last), itertools.count(1)

    def failing(*arguments: object, **options: object) -> object:
        if threading.current_thread().name.startswith(thread) and next(calls) >= first:
            raise FAULTS[fault]()
        return works(*arguments, **options)

    setattr(owner, last, failing)


if __name__ == "__main__":
    thread, where, fault, first = sys.argv[1:5]
    del sys.argv[1:5]
    vars(channel).update(HEARTBEAT=0.2)  # it is final for all but us
    _spoil(thread, where, fault, int(first))
    main()
