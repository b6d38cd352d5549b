"""nbdkit, as virtstore starts it: an NBD server on a unix socket that asks this process for every
range (`nbdkit_plugin`).

It ends with this process, however that ends: the socket between them is closed then, which the
plugin waits for.

Sources: nbdkit(1), nbdkit-python-plugin(3).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from virtstore.errors import Error, Exists, NotFound, Unsupported, UsageError
from virtstore.location import absolute
from virtstore.text import printable

_PLUGIN: Final = str(Path(__file__).with_name("nbdkit_plugin.py"))
_PACKAGES: Final = (
    "nbdkit and its Python plugin serve an export, and are missing here ({what}); install them:"
    " on Debian and Ubuntu, apt install nbdkit nbdkit-plugin-python"
)
#: Bytes of a unix socket's path, unix(7).
_LONGEST: Final = 107
#: Seconds that it has to begin, and to end by itself.
_LONGEST_START: Final = 60.0
_PATIENCE: Final = 5.0


class Nbdkit:
    """A running nbdkit that serves `size` bytes. `path`: of its socket; None: one in a directory
    that only this user can look into. `questions`: what it asks, and where the answers go."""

    def __init__(self, size: int, path: str | None, *, verbose: bool = False) -> None:
        program = shutil.which("nbdkit")
        if program is None:
            raise Unsupported(_PACKAGES.format(what="there is no nbdkit in PATH"))
        self._said: deque[str] = deque(maxlen=20)
        self._verbose = verbose
        self._made: tuple[int, int] | None = None
        self._log = threading.Thread(target=self._follow, name="log of nbdkit", daemon=True)
        with ExitStack() as stack:
            self._directory = None if path else stack.enter_context(_own_directory())
            self.path = absolute(path) if path else f"{self._directory}/nbd.sock"
            _check_path(self.path)
            stack.callback(self._remove)
            self.questions, theirs = socket.socketpair()
            with theirs:
                stack.callback(self.questions.close)
                self._process = self._start(program, theirs.fileno(), size)
            stack.callback(self._end)
            self._log.start()
            self._wait_until_it_listens()
            self._opened = stack.pop_all()

    @property
    def uri(self) -> str:
        """What NBD clients call it."""
        return f"nbd+unix://?socket={quote(os.fsencode(self.path))}"

    def wait(self) -> str:
        """How it ended, once it has: a sentence."""
        self._process.wait()
        self._log.join(1)
        words = f": {'; '.join(self._said)}" if self._said else ""
        return f"nbdkit ended with status {self._process.returncode}{words}"

    def close(self) -> None:
        """End it, whoever is connected, and remove what it served at. May be called twice."""
        self._opened.close()

    def _start(self, program: str, theirs: int, size: int) -> subprocess.Popen[bytes]:
        own = [f"directory={self._directory}"] if self._directory else []
        # `-f`: it stays the child that we see the end of.
        return subprocess.Popen(
            [
                *(program, "--foreground", "--readonly", "--newstyle"),
                *("--unix", self.path),
                *("python", _PLUGIN),
                *(f"fd={theirs}", f"size={size}", f"socket={self.path}", *own),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs],
            env=_environment(),
            process_group=0,  # Ctrl-C is for the command that uses it, and for us
        )

    def _wait_until_it_listens(self) -> None:
        self.questions.settimeout(_LONGEST_START)
        try:
            listens = self.questions.recv(1)
        except TimeoutError:
            raise Unsupported(
                "nbdkit did not say that it listens: it is older than 1.26, or this machine is busy"
            ) from None
        except OSError:
            listens = b""
        self.questions.settimeout(None)
        if listens:
            made = os.lstat(self.path)
            self._made = made.st_dev, made.st_ino
            return
        told = self.wait()
        if "cannot open plugin" in told:
            raise Unsupported(_PACKAGES.format(what="its Python plugin is not there"))
        raise Error(f"nothing is served: {told}", path=self.path)

    def _follow(self) -> None:
        assert self._process.stderr is not None
        with suppress(OSError, ValueError):
            for line in self._process.stderr:
                text = printable(line.strip())
                if text:
                    self._said.append(text)
                if self._verbose:
                    os.write(2, f"nbdkit: {text}\n".encode())

    def _remove(self) -> None:
        """Remove the socket, unless something else has its place by now."""
        with suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(self.path)

    def _end(self) -> None:
        """End the process, whoever is connected: the plugin sees its socket end."""
        with suppress(OSError):
            self.questions.shutdown(socket.SHUT_RDWR)  # wakes who waits for a question
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.join(1)
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def _own_directory() -> Iterator[str]:
    """A directory that only this user can look into, whose path leaves room for a socket's name."""
    short = len(os.fsencode(tempfile.gettempdir())) < _LONGEST // 2
    directory = tempfile.mkdtemp(prefix="virtstore-", dir=None if short else "/tmp")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_path(path: str) -> None:
    """Raises `UsageError`, `Exists` or `NotFound` for a path where no socket can be made."""
    if len(os.fsencode(path)) > _LONGEST:
        raise UsageError(
            f"a socket's path has at most {_LONGEST} bytes; --socket names a shorter one", path=path
        )
    if os.path.lexists(path):
        raise Exists("there is something already; remove it, or name another socket", path=path)
    if not os.path.isdir(os.path.dirname(path)):
        raise NotFound("there is no such directory for the socket", path=os.path.dirname(path))


def _environment() -> dict[str, str]:
    """Where the Python in nbdkit finds the system's modules: it looks for them beside the first
    python3 in PATH, which may be another version's, and heeds Python's variables."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PATH": "/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
