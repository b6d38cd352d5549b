"""An agent that waits, each time that it has told how far it is, for as long as a file is there: a
program for tests to start. Where the file holds a number, such as 0.5, it waits from that part of
the work on.

    patient_agent.py FILE [OPTION OF THE AGENT]…
"""

import sys
import time
from collections.abc import Callable

from virtstore.agent import session
from virtstore.agent.__main__ import main
from virtstore.agent.session import Session

Tell = Callable[[Session, int, int], None]


def _waiting(tell: Tell, file: str) -> Tell:
    def told(to: Session, done: int, total: int) -> None:
        tell(to, done, total)
        while done and _is_to_wait(file, done / total):
            to.check()  # its client may be gone
            time.sleep(0.001)

    return told


def _is_to_wait(file: str, part: float) -> bool:
    try:
        with open(file) as told:
            return part >= float(told.read() or 0)
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    file = sys.argv.pop(1)
    vars(session).update(_REPORT=0.0)  # it is final for all but us
    type.__setattr__(Session, "_report", _waiting(Session._report, file))
    main()
