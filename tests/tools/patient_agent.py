"""An agent that waits, each time that it has told how far it is, for as long as a file is there: a
program for tests to start.

    patient_agent.py FILE [OPTION OF THE AGENT]…
"""

import os
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
        while done and os.path.exists(file):
            to.check()  # its client may be gone
            time.sleep(0.001)

    return told


if __name__ == "__main__":
    file = sys.argv.pop(1)
    setattr(session, "_REPORT", 0.0)  # noqa: B010 (it is final for all but us)
    setattr(Session, "_report", _waiting(Session._report, file))  # noqa: B010
    main()
