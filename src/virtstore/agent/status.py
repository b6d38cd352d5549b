"""What this user's agents are working on, for `virtstore jobs`.

Each agent that works on a request for a while says so in a file of its own beside the locks, a few
times a second, by the thread that watches for its client's hang-up: so a short request writes
nothing. The file is held by a lock that ends with the process, however it ends. One that nobody
holds is of an agent that was killed, and whoever finds it removes it. Nothing else is kept, and an
agent that cannot write there goes on without.

A file is written in place, and is its own proof: its reader meets a write now and then, and then
reads again.

Source: fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from blake3 import blake3

from virtstore.agent import caller, locks
from virtstore.agent.session import Session
from virtstore.errors import Error
from virtstore.model import Job
from virtstore.protocol import Ask

#: Length and digest of what follows.
_HEAD: Final = struct.Struct(">I8s")
_LONGEST: Final = 1 << 16
#: A write takes microseconds, and there are two a second.
_TRIES: Final = 5

#: What users call requests that change nothing on their host.
_VERBS: Final = {
    "ListImages": "list",
    "GetInfo": "info",
    "GetStorageInfo": "storage-info",
    "Examine": "doctor",
    "VerifyImage": "verify",
    "HashImage": "diff",
    "Send": "copy",
    "OpenImage": "export",
}


class Written(msgspec.Struct, frozen=True):
    """A job, as an agent writes it. `others`: further paths that it works on."""

    job: Job
    others: tuple[str, ...] = ()


class Status:
    """What this agent says of the request that it works on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._request: Ask[Any] | None = None
        self._began = datetime.now(UTC)
        self._file = -1
        self._path = ""
        self._able = True

    @contextmanager
    def of(self, request: Ask[Any]) -> Iterator[None]:
        """While a request is being worked on. It is not told of before the next `write`."""
        with self._lock:
            self._request, self._began = request, datetime.now(UTC).replace(microsecond=0)
        try:
            yield
        finally:
            self._end()

    def write(self) -> None:
        """Tell how far it is, if there is one."""
        with self._lock:
            if self._request is None or not self._able:
                return
            try:
                self._open()
                _write(self._file, self._written(self._request))
            except (OSError, Error):
                self._able = False

    def _end(self) -> None:
        with self._lock:
            self._request = None
            if self._file >= 0:
                with suppress(OSError):
                    os.unlink(self._path)
                os.close(self._file)
                self._file = -1

    def _open(self) -> None:
        if self._file >= 0 and not os.fstat(self._file).st_nlink:
            os.close(self._file)  # a reader met it before it was held, and removed it
            self._file = -1
        if self._file < 0:
            directory = _directories()[0]
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            self._path = f"{directory}/{os.getpid()}-{secrets.token_hex(4)}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            locks.hold_file(self._file)

    def _written(self, request: Ask[Any]) -> Written:
        paths = [getattr(request, field, None) for field in ("path", "target", "source")]
        named = [path for path in paths if path]
        stage, done, total = self._session.far
        job = Job(
            host="",
            pid=os.getpid(),
            user=caller.started_by() or caller.user(),
            from_=caller.address(),
            verb=request.verb or _VERBS.get(type(request).__name__) or _handler(request),
            path=named[0] if named else None,
            began=self._began,
            stage=stage,
            done=done,
            total=total,
        )
        return Written(job, tuple(named[1:]))


def running() -> Iterator[Written]:
    """What the agents of this user are working on, but for this one. Files of agents that were
    killed are removed."""
    for directory in _directories():
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(directory)):
                with suppress(FileNotFoundError):
                    if (found := _read(f"{directory}/{name}")) and found.job.pid != os.getpid():
                        yield found


def _directories() -> list[str]:
    return [f"{directory}/jobs" for directory in locks.directories()]


def _handler(request: Ask[Any]) -> str:
    return request.handler.rpartition(".")[2].replace("_", "-")


def _write(fd: int, written: Written) -> None:
    body = msgspec.json.encode(written)[:_LONGEST]
    os.pwrite(fd, _HEAD.pack(len(body), blake3(body).digest(8)) + body, 0)


def _read(path: str) -> Written | None:
    """What an agent wrote; None where it has written nothing whole, or is no more."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if not locks.is_file_held(fd):
            os.unlink(path)
            return None
        for _ in range(_TRIES):
            if body := _whole(os.pread(fd, _HEAD.size + _LONGEST, 0)):
                return msgspec.json.decode(body, type=Written)
        return None
    except msgspec.DecodeError:  # another version's
        return None
    finally:
        os.close(fd)


def _whole(data: bytes) -> bytes | None:
    """What stands behind the head, if all of it was written; else None."""
    if len(data) < _HEAD.size:
        return None
    length, digest = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    return body if len(body) == length and blake3(body).digest(8) == digest else None
