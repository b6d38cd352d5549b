"""What signals do to an agent. SIGINT and SIGHUP, which reach a local one from its terminal, are
the client's, which ends the session in order. SIGTERM ends it as a client does that hangs up:
what is half-done is cleaned up or stays as partial. SIGUSR1 asks how far it is.

They are taken by a thread, from a pipe: the thread that works may be deep in a system call, or
hold any lock.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Final

from virtstore.agent.session import GRACE, Session

log: Final = logging.getLogger("virtstore.agent")


def install() -> int:
    """Take signals from now on. Returns the descriptor from which `heed` reads them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # the number is in the pipe
    # Whoever starts us keeps it from a process that does not handle it yet.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    return reading


def heed(reading: int, session: Session) -> None:
    """Do what the signals say, in a thread."""
    threading.Thread(target=_heed, args=(reading, session), name="signals", daemon=True).start()


def _heed(reading: int, session: Session) -> None:
    while numbers := os.read(reading, 64):
        if signal.SIGUSR1 in numbers:
            log.warning("%s", session.how_far)
        if signal.SIGTERM in numbers:
            log.warning("ended by a signal (SIGTERM)")
            session.hang_up()
            time.sleep(GRACE)
            os._exit(1)
