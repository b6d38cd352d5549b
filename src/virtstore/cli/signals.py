"""What other signals than Ctrl-C do to a command.

SIGHUP (the terminal has gone) and SIGTERM end it as Ctrl-C does, in order. SIGUSR1 is how people
ask a dd how far it is: one line on standard error.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGHUP, signal.SIGTERM)

#: The answer to SIGUSR1, by what it is about.
_how_far: Final[dict[str, str]] = {}
_NOTHING: Final = "nothing has been asked of a host yet"


def tell(source: str, text: str | None) -> None:
    """Note how far something is; None: it has ended, which the answer tells of the last one."""
    if text is None and len(_how_far) > 1:
        _how_far.pop(source, None)
    elif text is not None:
        _how_far[source] = text


def install() -> None:
    """From now on. What the shell has us ignore (nohup) stays ignored."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGUSR1, _tell)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):  # not by `sys.stderr`: it may be what was interrupted
        line = f"virtstore: {'; '.join([*_how_far.values()]) or _NOTHING}\n"
        os.write(2, (f"\r\x1b[K{line}" if os.isatty(2) else line).encode())
