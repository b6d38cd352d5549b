"""Who did what: one line for each request that changes something, or that was refused.

A line is words of `KEY=VALUE`. Text that came from a client, such as a path, is quoted as JSON
does it, in ASCII: nothing that a client sends begins a line of its own or looks like another key.
No contents are written, and no request fails because its line cannot be.

Sources: systemd's "Native Journal Protocol"; syslog(3).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, Final

import msgspec

from virtstore.agent import caller
from virtstore.protocol import Ask

log: Final = logging.getLogger("virtstore.agent")

#: Where systemd's journal takes datagrams.
SOCKET: Final = "/run/systemd/journal/socket"
_NAME: Final = "virtstore-agent"
#: Seconds that a journal may take which does not read.
_PATIENCE: Final = 1.0


class Entry(msgspec.Struct):
    """One request. `began`: by the monotonic clock; `code`: how it ended, "done" or an error's;
    `written`: bytes, where its answer tells."""

    request: Ask[Any]
    began: float
    code: str = "done"
    written: int | None = None

    @property
    def is_due(self) -> bool:
        changes = bool(self.request.verb) and not getattr(self.request, "dry_run", False)
        return changes or self.code == "denied"

    def line(self) -> str:
        """What is written of it, without a time."""
        verb = self.request.verb or self.request.handler.rpartition(".")[2]
        told: dict[str, str] = {"verb": verb}
        for field in ("path", "name", "source", "target"):
            if value := getattr(self.request, field, None):
                told[field] = _quoted(value)
        told["outcome"] = self.code
        if self.written is not None:
            told["written"] = str(self.written)
        told["seconds"] = f"{time.monotonic() - self.began:.3f}"
        return " ".join(f"{key}={value}" for key, value in {**told, **_caller()}.items())


def write(entry: Entry, where: str) -> None:
    """Write the line of a request to `where`, as `log` in the configuration names it."""
    if where == "none":
        return
    line, refused = entry.line(), entry.code == "denied"
    try:
        if where.startswith("/"):
            _to_file(where, line)
        elif where == "journal" and os.path.exists(SOCKET):
            _to_journal(line, refused=refused)
        else:
            _to_syslog(line, refused=refused)
    except OSError as error:
        log.warning("what was done could not be written to %s: %s", where, error)


def _to_file(path: str, line: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        os.write(fd, f"{now} {_NAME}[{os.getpid()}]: {line}\n".encode())
    finally:
        os.close(fd)


def _to_journal(line: str, *, refused: bool) -> None:
    import socket  # few agents get here, and all start
    import syslog

    facility = syslog.LOG_AUTH if refused else syslog.LOG_DAEMON
    fields = {
        "MESSAGE": line,
        "PRIORITY": str(syslog.LOG_WARNING if refused else syslog.LOG_INFO),
        "SYSLOG_FACILITY": str(facility >> 3),
        "SYSLOG_IDENTIFIER": _NAME,
    }
    text = "".join(f"{key}={value}\n" for key, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.settimeout(_PATIENCE)
        journal.sendto(text.encode(), SOCKET)


def _to_syslog(line: str, *, refused: bool) -> None:
    import syslog

    facility = syslog.LOG_AUTH if refused else syslog.LOG_DAEMON
    syslog.openlog(_NAME, syslog.LOG_PID, facility)
    syslog.syslog(syslog.LOG_WARNING if refused else syslog.LOG_INFO, line)
    syslog.closelog()


def _caller() -> dict[str, str]:
    """The user of the agent, the user and address that called it, and its own options."""
    told = {"user": _quoted(caller.user())}
    if by := caller.started_by():
        told["by"] = _quoted(by)
    if address := caller.address():
        told["from"] = _quoted(address)
    if sys.argv[1:]:
        told["options"] = _quoted(" ".join(sys.argv[1:]))
    return told


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
