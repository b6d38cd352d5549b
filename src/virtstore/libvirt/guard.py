"""What is begun with a domain and has to end, whatever becomes of the agent: the agent's side.

A process of its own (watch.py) begins it, so that nothing can begin that nobody would end. The
agent holds the other end of a pipe. However the agent ends, killed included, that end closes, and
the process ends what it began. Should the process be killed, the agent does that. A host that
stops ends its domains, and with them what was begun; a scratch file is left, as partial.
"""

from __future__ import annotations

import threading

import msgspec

from virtstore import run
from virtstore.errors import Error, from_code
from virtstore.libvirt.backup_job import Backup
from virtstore.libvirt.freeze import Freeze
from virtstore.own_programs import module_argv

#: What a guard begins and ends: `begin`, which returns a warning; `look`, called now and then,
#: which raises what it has to be ended for; `end`, which also undoes what was begun by half.
Task = Backup | Freeze


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the process's: that it has begun, with a warning maybe; an error's code and
    message; or neither, that all has ended well. Behind the latter two comes nothing."""

    begun: bool = False
    code: str = ""
    message: str = ""
    warning: str = ""


class Guard:
    """Begins a task in a process of its own. Raises what it could not be begun for. `warnings`:
    what there is to say of how it was begun."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._outcome: Told | None = None
        self._lock = threading.Lock()
        argv = [*module_argv("virtstore.libvirt.watch"), msgspec.json.encode(task).decode()]
        self._process = run.companion(argv, answers=True)
        told = self._next()
        if not told.begun:
            self._outcome = told
            self._close()
            raise _error(told) or Error("the process that was to begin it was killed")
        self.warnings = (told.warning,) if told.warning else ()

    def end(self) -> Error | None:
        """End it, and return once it has ended. Returns what was wrong with it, each time."""
        with self._lock:
            if self._outcome is None:
                assert self._process.stdin
                self._process.stdin.close()
                self._outcome = self._next()
                self._close()
            return _error(self._outcome)

    def _next(self) -> Told:
        """The next line. Where there is none, the process was killed, and its work is done here."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Told)
        self._task.end()
        return Told()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait()


def _error(told: Told) -> Error | None:
    return from_code(told.code, told.message) if told.code else None
