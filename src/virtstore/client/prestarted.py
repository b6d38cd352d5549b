"""Agents that are started before anybody asks for them.

What a command line means is known once everything that reads it is imported, and that takes
longer than an agent takes to start, or ssh to begin to connect. So the agents that it seems
to name are started first, and wait for a request. Whoever opens a session takes one over that
was started by the very same argv; those that nobody takes are ended unused.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

#: Seconds that a process has to end.
_PATIENCE: Final = 1.0

_waiting: Final[list[subprocess.Popen[bytes]]] = []


def launch(argv: list[str], handed_over: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the process of an agent, with its session on pipes. `handed_over`: descriptors that it
    has as well. Raises `OSError`."""
    pipe = subprocess.PIPE
    # Whoever asks all of a command's processes how far it is does not mean to kill its ssh.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        return subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, pass_fds=handed_over
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start(argv: list[str]) -> None:
    """Start an agent that may be wanted. An error is raised by `take`, for whoever wants the
    agent."""
    with suppress(OSError):
        _waiting.append(launch(argv))


def take(argv: list[str], handed_over: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """The agent that was started by `argv`, or a new one. Raises `OSError`."""
    for process in _waiting:
        if process.args == argv:
            _waiting.remove(process)
            return process
    return launch(argv, handed_over)


def end() -> None:
    """End the agents that nobody took. They have got no request, so nothing is waited for; least of
    all what ssh may have started, which holds its end of the pipes."""
    while _waiting:
        process = _waiting.pop()
        process.terminate()  # so that ssh can end its own
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
