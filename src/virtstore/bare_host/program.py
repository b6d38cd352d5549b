"""The far end of a setup session: one JSON line for each request, and one for each answer.

The client's end is client/setup_session.py.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

# Name by name: the package itself is not sent.
from virtstore.bare_host.authorized_keys import authorize, file_of_keys
from virtstore.bare_host.installing import install
from virtstore.bare_host.places import Refused, of_scope
from virtstore.bare_host.removing import owned, refuse_running, uninstall
from virtstore.bare_host.survey import survey

_CODES: Final = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
}
_FREE: Final = "; free space there, then run the same command again"
_REMEDIES: Final = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EROFS: "; have it mounted for writing, then run the same command again",
}


def main() -> None:
    """Answer requests until there are no more."""
    os.umask(0o022)
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line)
        try:
            told: dict[str, object] = {"answer": _REQUESTS[asked.pop("ask")](**asked)}
        except Refused as error:
            told = _error(error.code, error.message, error.path)
        except OSError as error:
            code = _CODES.get(error.errno or 0, "failed")
            path = error.filename if isinstance(error.filename, str) else None
            message = (error.strerror or str(error)) + _REMEDIES.get(error.errno or 0, "")
            told = _error(code, message, path)
        print(json.dumps(told), flush=True)


def _error(code: str, message: str, path: str | None) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "path": path}}


def _survey(scope: str, tools: list[str], directories: list[str]) -> object:
    scope = scope or ("user" if os.geteuid() else "root")
    return survey(of_scope(scope), scope, _path(), tools, directories)


def _become_root(start: str) -> object:
    """Start anew as root, with the same standard streams: nothing has been sent that was not read.
    `start`: the Python that begins a session."""
    if shutil.which("sudo") is None:
        raise Refused("unsupported", "sudo is not installed there")
    words = ["-n", "--", "/usr/bin/python3", "-I", "-S", "-c", start, _path()]
    os.execvp("sudo", ["sudo", *words])


def _install(scope: str, digest: str, size: int, configuration: str | None) -> object:
    archive = _exactly(sys.stdin.buffer, size)
    return install(of_scope(scope), digest, archive, configuration)


def _uninstall(scope: str, dry_run: bool) -> object:
    where = of_scope(scope)
    if dry_run:
        refuse_running(where)
        return owned(where)
    return uninstall(where)


def _authorize(line: str, key: str, dry_run: bool) -> object:
    return authorize(line, key, dry_run=dry_run)


def _agent() -> object:
    """How a key's command starts an agent here, and the file that it stands in."""
    found = shutil.which("virtstore-agent", path=_path())
    own = of_scope("user").command("virtstore-agent")
    command = "virtstore-agent" if found else own if os.path.exists(own) else ""
    return [command, file_of_keys()]


def _path() -> str:
    """The PATH of a session of that login: behind sudo there is another one."""
    return sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PATH", os.defpath)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:  # the client has gone
        sys.exit(1)
    return data


_REQUESTS: Final[dict[str, Callable[..., object]]] = {
    "agent": _agent,
    "authorize": _authorize,
    "become-root": _become_root,
    "install": _install,
    "survey": _survey,
    "uninstall": _uninstall,
}
