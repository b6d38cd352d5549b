"""One connection to a host that has no virtstore yet: the system's Python, and what we send it.

Python there reads the modules of `virtstore.bare_host` and runs them. Then one JSON line is a
request and one is its answer; a request may be followed by bytes. All that the host says is
checked here: it cannot make this side do or write anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from importlib.resources import files
from typing import Final, NoReturn, Self, TypeVar

import msgspec

from virtstore.client import complaints, ssh
from virtstore.errors import ConnectionFailed, Denied, Error, Unsupported, from_code
from virtstore.location import HostAddress
from virtstore.text import printable

#: What is sent, in the order in which they import each other.
_MODULES: Final = ("places", "installing", "removing", "authorized_keys", "survey", "program")

_GREETING: Final = "virtstore setup"
#: Runs in any Python 3, so that an old one can be told from none. Without line breaks and single
#: quotes, which some login shells do not take as they are.
_START: Final = (
    "import sys,types,json;"
    f'print("{_GREETING}",*sys.version_info[:2],flush=True);'
    '[exec(compile(s,n,"exec"),sys.modules.setdefault(n,types.ModuleType(n)).__dict__)'
    " for n,s in json.loads(sys.stdin.buffer.readline())];"
    'sys.modules["virtstore.bare_host.program"].main()'
)
_PYTHON: Final = ("/usr/bin/python3", "-I", "-S", "-c", _START)

_OLDEST: Final = (3, 11)

#: The exit status of ssh for what went wrong of its own.
_SSH_FAILED: Final = 255

#: Lines that a login script may print before Python begins, and bytes that a line may have.
_NOISE: Final = 100
_LONGEST: Final = 1 << 20
_PIECE: Final = 64 << 10

T = TypeVar("T")


class _Refusal(msgspec.Struct, frozen=True):
    code: str
    message: str
    path: str | None = None


class _Reply(msgspec.Struct, frozen=True):
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: _Refusal | None = None


class SetupSession:
    """A session; `name` is the host's, for messages. `verbose`: show what the host says."""

    def __init__(self, address: HostAddress, *, verbose: bool = False) -> None:
        self.name = address.name
        self._verbose = verbose
        self._said: deque[str] = deque(maxlen=40)
        argv = ssh.command_argv(address, [*_PYTHON])
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        except OSError as error:
            self._no_python(f"{argv[0]}: {error.strerror}")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._log = threading.Thread(target=self._follow_log, daemon=True)
        self._log.start()
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        what: str,
        kind: type[T],
        data: bytes = b"",
        sent: Callable[[int], None] = lambda count: None,
        **values: object,
    ) -> T:
        """The host's answer to a request, which `data` follows; `sent` hears how much of it is
        gone. Raises what the host refused it with, and `ConnectionFailed`."""
        self._send(json.dumps({"ask": what, **values}).encode() + b"\n")
        for at in range(0, len(data), _PIECE):
            self._send(data[at : at + _PIECE])
            sent(min(at + _PIECE, len(data)))
        line = self._line()
        try:
            reply = msgspec.json.decode(line, type=_Reply)
            if reply.error is None:
                return msgspec.json.decode(reply.answer, type=kind)
        except (msgspec.DecodeError, RecursionError):  # the first also of what does not fit
            raise ConnectionFailed(
                f"what answered makes no sense: {printable(line[:200])}", host=self.name
            ) from None
        error = reply.error
        raise from_code(error.code, error.message, host=self.name, path=error.path)

    def become_root(self) -> None:
        """Go on as root. Raises `Denied` where that login may not."""
        self._send(json.dumps({"ask": "become-root", "start": _START}).encode() + b"\n")
        try:
            self._greet()
        except Error as error:
            raise Denied(
                f"that login cannot become root there ({error.message.splitlines()[0]}). Log in as"
                " root, leave --as-root out to install for that user alone, or have a line in its"
                " sudoers, which lets that user be root: 'USER ALL=(root) NOPASSWD:"
                " /usr/bin/python3'",
                host=self.name,
            ) from None

    def close(self) -> None:
        for stream in (self._to, self._from):
            try:
                stream.close()
            except OSError:
                continue  # it had not taken all
        try:
            self._process.wait(4)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.join(1)
        if self._process.stderr:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _greet(self) -> None:
        for _ in range(_NOISE):
            line = self._line()
            if line.startswith(_GREETING.encode()):
                break
            if line.startswith(b"virtstore agent"):
                raise Denied(
                    "that key may start an agent there and nothing else (command= of its line in"
                    " authorized_keys); use another",
                    host=self.name,
                )
        else:
            raise ConnectionFailed("what answered is no Python", host=self.name)
        self._refuse_old(line)
        package = files("virtstore.bare_host")
        sources = [
            (f"virtstore.bare_host.{name}", package.joinpath(f"{name}.py").read_text("utf-8"))
            for name in _MODULES
        ]
        self._send(json.dumps(sources).encode() + b"\n")

    def _refuse_old(self, greeting: bytes) -> None:
        words = greeting[len(_GREETING) :].split()
        numbers = tuple(int(word) for word in words if word.isdigit() and len(word) < 4)
        if numbers < _OLDEST:
            raise Unsupported(
                f"it has Python {'.'.join(map(str, numbers))}, and virtstore needs"
                f" {'.'.join(map(str, _OLDEST))} or later",
                host=self.name,
            )

    def _send(self, data: bytes) -> None:
        try:
            self._to.write(data)
            self._to.flush()
        except OSError:
            self._fail()

    def _line(self) -> bytes:
        line = self._from.readline(_LONGEST)
        if not line.endswith(b"\n"):
            self._fail()
        return line

    def _fail(self) -> NoReturn:
        """Raise why there is no session any more."""
        try:
            status = self._process.wait(4)
        except subprocess.TimeoutExpired:
            status = 0
        self._log.join(1)
        said = [*self._said]
        words = complaints.shown(said)
        if status in (126, 127) or "ModuleNotFoundError" in words:  # such as python3-minimal's
            self._no_python(words)
        remedy = complaints.remedy(said) if status == _SSH_FAILED else ""
        told = words or "the host went away"
        raise ConnectionFailed(f"{told}{'; ' if remedy else ''}{remedy}", host=self.name)

    def _no_python(self, words: str) -> NoReturn:
        raise ConnectionFailed(
            f"there is no whole Python there to begin with ({words}): apt-get install python3",
            host=self.name,
        )

    def _follow_log(self) -> None:
        assert self._process.stderr is not None
        for line in iter(lambda: self._readline(), b""):
            if text := printable(line.strip()):
                self._said.append(text)
                if self._verbose and sys.stderr:
                    sys.stderr.write(f"{self.name}: {text}\n")

    def _readline(self) -> bytes:
        assert self._process.stderr is not None
        try:
            return self._process.stderr.readline(_PIECE)
        except (OSError, ValueError):
            return b""  # it was closed
