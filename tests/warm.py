"""Commands and agents that begin at once: forked from a process that has imported all of them.

Tests start thousands of processes of virtstore, and most of what each costs is to import the same
modules again. Here one process per run has done that and waits; for each command line it forks,
and the child goes on as a fresh interpreter would at the first line of the program: with words,
environment, directory, umask and standard streams of its own, as a process of its own that can be
killed. What is tested is the same code. What is not: that the interpreter starts, which is for the
tests that start the installed programs (tests/hosts, tests/unit/test_ssh.py).

A command line that is not exactly one of ours, or that needs what only a new interpreter has
(another locale, descriptors handed over), is started as usual. So is what a test starts within
`as_usual`.

Source: unix(7) on SCM_RIGHTS and SOCK_SEQPACKET; proc(5) on cmdline.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from virtstore.client import prestarted

#: What may follow the interpreter to be a command line of ours.
COMMAND: Final = "from virtstore.cli.start import main; main()"

#: Bytes of a request at the most; a longer one is started as usual.
_LONGEST: Final = 100_000
#: Room for the words that a process shows (`/proc/PID/cmdline`).
_ROOM: Final = 4000
#: Seconds that a command may take, as `waiting.PATIENCE`.
_TIMEOUT: Final = 120.0
#: What an interpreter reads of its environment before our first line.
_OF_PYTHON: Final = ("PYTHON", "LC_", "LANG")

_launch: Final = prestarted.launch

#: Where the process that forks is asked; None where there is none.
_address: str | None = None


class Forked:
    """A process that was forked, with what users of `subprocess.Popen` want of it."""

    def __init__(
        self, told: socket.socket, pid: int, argv: Sequence[str], ours: Sequence[int]
    ) -> None:
        self.args, self.pid = argv, pid
        self.returncode: int | None = None
        self._told = told
        self._waiting = threading.Lock()
        self.stdin = io.FileIO(ours[0], "w")
        self.stdout, self.stderr = (io.FileIO(fd) for fd in ours[1:])

    def wait(self, timeout: float | None = None) -> int:
        with self._waiting:
            return self._ended(timeout)

    def poll(self) -> int | None:
        if self._waiting.acquire(blocking=False):  # else another thread waits: it runs
            try:
                with suppress(subprocess.TimeoutExpired):
                    return self._ended(0)
            finally:
                self._waiting.release()
        return self.returncode

    def _ended(self, timeout: float | None) -> int:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                said = self._told.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired([*self.args], timeout or 0) from None
            self._told.close()
            # Nothing is said where the forking process was ended itself.
            self.returncode = int(said or -signal.SIGKILL)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextmanager
def started() -> Iterator[None]:
    """Within this, agents and what `run` runs are forked, where they can be."""
    global _address
    with TemporaryDirectory(prefix="virtstore-warm-") as directory:
        address = f"{directory}/fork"
        argv = [sys.executable, "-X", "utf8", "-P", __file__, address, "-" * _ROOM]
        server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdout
        assert server.stdin
        with server, server.stdout, server.stdin:
            try:
                assert server.stdout.readline() == b"ready\n"
                _address = address
                prestarted.launch = _launch_agent
                yield
            finally:
                prestarted.launch, _address = _launch, None
                server.kill()


@contextmanager
def as_usual() -> Iterator[None]:
    """Within this, they are new interpreters and children of whoever starts them: for a test of how
    much memory one has, or of who started it."""
    global _address
    address, _address = _address, None
    try:
        yield
    finally:
        _address = address


def run(
    words: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` of `virtstore` and these words gives, with all that it printed as text.
    `environment`: in place of ours."""
    argv = [sys.executable, "-c", COMMAND, *words]
    process = _forked(argv, environment)
    if process is None:
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=_TIMEOUT, env=environment
        )
    process.stdin.close()
    try:
        stdout, stderr = _read(process)
        process.wait(_TIMEOUT)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
    return subprocess.CompletedProcess(argv, process.wait(_TIMEOUT), stdout, stderr)


def _read(process: Forked) -> tuple[str, str]:
    """Both streams up to their ends."""
    said: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as waiting:
        for stream in (process.stdout, process.stderr):
            said[stream.fileno()] = bytearray()
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(_TIMEOUT)
            if not ready:
                raise subprocess.TimeoutExpired([*process.args], _TIMEOUT)
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                said[key.fd] += piece
                if not piece:
                    waiting.unregister(key.fileobj)
    stdout, stderr = (bytes(text).decode().replace("\r\n", "\n") for text in said.values())
    return stdout, stderr


def _launch_agent(argv: list[str], handed_over: Sequence[int] = ()) -> Any:
    """As `prestarted.launch`."""
    process = None if handed_over else _forked(argv, agent=True)
    return process or _launch(argv, handed_over)


def _program(argv: Sequence[str]) -> list[str]:
    """What follows the interpreter and its options: `-c COMMAND WORD…` or `-m virtstore.agent
    WORD…`. Nothing for another program: one that puts something else in place of a function of ours
    has to do so before others import it."""
    if not argv or argv[0] != sys.executable:
        return []
    first = next((n for n, word in enumerate(argv) if n and word not in ("-P", "-X", "utf8")), 0)
    words = [*argv[first:]] if first else []
    return words if words[:2] in (["-c", COMMAND], ["-m", "virtstore.agent"]) else []


def _umask() -> int:
    """It is not to be changed to be seen: other threads make files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def _forked(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, *, agent: bool = False
) -> Forked | None:
    """The process; None where it has to be started as usual."""
    if _address is None or not _program(argv):
        return None
    request = {
        "argv": [*argv],
        "agent": agent,
        "environment": dict(os.environ if environment is None else environment),
        "directory": os.getcwd(),
        "umask": _umask(),
    }
    text = json.dumps(request).encode()
    if len(text) > _LONGEST:
        return None
    with ExitStack() as stack:
        told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(told.close)
        pipes = [os.pipe() for _ in range(3)]
        theirs = pipes[0][0], pipes[1][1], pipes[2][1]
        ours = pipes[0][1], pipes[1][0], pipes[2][0]
        for fd in ours:
            stack.callback(os.close, fd)
        try:
            told.connect(_address)
            socket.send_fds(told, [text], theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        pid = int(told.recv(64))
        if pid:
            stack.pop_all()
            return Forked(told, pid, argv, ours)
    return None


# From here on: the process that forks.


def _serve(address: str) -> None:
    _import_all()
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(64)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print("ready", flush=True)
    waiting = selectors.DefaultSelector()
    for fd in (listening.fileno(), ended, 0):
        waiting.register(fd, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    while True:
        for key, _ in waiting.select():
            if key.fd == 0:
                return  # whoever started us has ended
            if key.fd == ended:
                os.read(ended, 512)
                _tell_who_ended(children)
            else:
                _accept(listening, children, [waiting.fileno(), ended, wake])


def _tell_who_ended(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with children.pop(pid) as told, suppress(OSError):
            told.send(str(os.waitstatus_to_exitcode(status)).encode())


def _accept(listening: socket.socket, children: dict[int, socket.socket], own: list[int]) -> None:
    told, _ = listening.accept()
    text, fds, _, _ = socket.recv_fds(told, _LONGEST, 3)
    try:
        request = json.loads(text)
        if not _is_alike(request["environment"]):
            told.send(b"0")
            told.close()
            return
        # As in `prestarted.launch`: it must not be ended by what it does not handle yet.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        pid = os.fork()
        if pid == 0:
            if not request["agent"]:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            sockets = (listening, told, *children.values())
            _become(request, fds, [*own, *(each.fileno() for each in sockets)])
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        children[pid] = told
        told.send(str(pid).encode())
    finally:
        for fd in fds:
            os.close(fd)


def _is_alike(environment: dict[str, str]) -> bool:
    """Whether an interpreter that was started with this environment would be as this one is."""
    mine, theirs = (
        {name: value for name, value in each.items() if name.startswith(_OF_PYTHON)}
        for each in (os.environ, environment)
    )
    return mine == theirs


def _become(request: dict[str, Any], fds: Sequence[int], others: Sequence[int]) -> None:
    """Be the process that was asked for, to its end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        for fd in (*fds, *others):
            os.close(fd)
        os.chdir(request["directory"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        _open_streams()
        _show(request["argv"])
        option, _, *words = _program(request["argv"])
        sys.argv = [option, *words]
        module = "virtstore.cli.start" if option == "-c" else "virtstore.agent.__main__"
        import_module(module).main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _open_streams() -> None:
    """As an interpreter opens them in UTF-8 mode."""
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(fd, mode, buffering, "utf-8", errors, closefd=False)
        for fd, mode, buffering, errors in (
            (0, "r", -1, "surrogateescape"),
            (1, "w", -1, "surrogateescape"),
            (2, "w", 1, "backslashreplace"),
        )
    )


def _show(argv: Sequence[str]) -> None:
    """Write these words over those that the process shows: an agent is known by its own."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
    words = b"".join(os.fsencode(word) + b"\0" for word in argv)[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def _import_all() -> None:
    """Import all that commands and agents do, and what they import when they are asked for it."""
    import virtstore

    prestarted.launch = _launch_agent
    for found in pkgutil.walk_packages(virtstore.__path__, "virtstore."):
        if not found.name.startswith("virtstore.bare_host") and not found.name.endswith("plugin"):
            with suppress(ImportError):  # of what is not installed
                import_module(found.name)


if __name__ == "__main__":
    _address = sys.argv[1]
    _serve(sys.argv[1])
