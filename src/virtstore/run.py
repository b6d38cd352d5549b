"""The one door through which virtstore starts a host's tools.

A tool is named by an argv list, never a shell line; it gets the C locale, so that its
output can be parsed, and no standard input. What reads an image or an archive reads
hostile input: `confined` runs it in bubblewrap without network, on a read-only system,
in namespaces of its own, with a bound on its memory. Descriptors in `pass_fds` stay open
in it, and `/proc/self/fd/N` names them there: that is how a tool gets the one object
that it is to work on, and no path to any other. It can change that object's contents but not
its length (see seccomp.py).

Host tools needed: bubblewrap (`bwrap`) and util-linux (`prlimit`) for confined runs.
"""

from __future__ import annotations

import logging
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Final

import msgspec

from virtstore import programs, sandbox, user_namespace
from virtstore.errors import Error, LeftRunning
from virtstore.seccomp import length_filter
from virtstore.text import remark

log: Final = logging.getLogger("virtstore.agent")

#: Address space of a confined tool. e2fsck keeps a few bits a block: this is ample for 16 TiB.
MEMORY_LIMIT: Final = 4 << 30

_WATCH_EVERY: Final = 0.25


class Completed(msgspec.Struct, frozen=True):
    """A tool that has ended: its exit status (negative: the signal) and raw output."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """What the tool said last, for a message: one printable line."""
        said = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return remark(lines[-1] if lines else f"no message, exit status {self.status}")


def run(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    confined: bool = False,
    sets_length: bool = False,
    outlives_us: bool = False,
    timeout: float = 60,
    watch: Callable[[bytes], None] | None = None,
    give_up: Callable[[float], None] | None = None,
    named: Sequence[int] = (),
    shown: Sequence[str] = (),
) -> Completed:
    """Run a tool to its end and return what it said; a failure of its own is in `status`.

    `sets_length`: a confined tool may cut or extend what it works on.
    `outlives_us`: a tool that changes an image is not stopped half-way when the agent dies.
    `watch` is given, a few times a second, what the tool has written to its standard output.
    `give_up` is called a few times a second with the seconds that the tool has run. What it raises
    ends the tool, also one that changes an image, so it knows that the tool only waits.
    `named`: descriptors that a confined tool resolves to a real path, which then has to exist.
    `shown`: directories beside /usr that a confined tool may read.
    Raises `Unsupported` if the tool is missing, `Error` if it runs longer than `timeout`
    seconds (and then it has been killed, unless it is one that may outlive us).
    """
    began = time.monotonic()
    with ExitStack() as files:
        # Into memory, not into pipes: on a pipe whose reader died, its next word would kill it.
        outputs = (
            [files.enter_context(_memory_file()) for _ in range(2)]
            if outlives_us or watch or give_up
            else []
        )
        stdout, stderr = outputs or (subprocess.PIPE, subprocess.PIPE)
        guard = files.enter_context(_length_filter()) if confined and not sets_length else ()
        users = files.enter_context(users_of(pass_fds)) if confined else ()
        process = subprocess.Popen(
            _command(
                argv,
                confined=confined,
                dies_with_us=not outlives_us,
                seccomp=guard,
                users=users,
                named=named,
                shown=shown,
            ),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*pass_fds, *guard, *users),
            env=environment(),
            start_new_session=True,
        )
        if outputs and watch:
            _watch(process, outputs[0], watch, timeout)
        if outputs and give_up:
            _give_up(process, give_up, timeout)
        said = _wait(process, argv[0], timeout, kill=not outlives_us)
        if outputs:
            said = (_contents(outputs[0]), _contents(outputs[1]))
    took = time.monotonic() - began
    log.debug("%s: exit status %d, %.2f s", shlex.join(argv), process.returncode, took)
    return Completed(tuple(argv), process.returncode, *said)


@contextmanager
def users_of(lent: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The user namespace that a tool needs to open what it is lent; none for bubblewrap's own."""
    if not user_namespace.is_needed(lent):
        yield ()
        return
    with user_namespace.made() as fd:
        yield () if fd is None else (fd,)


@contextmanager
def _length_filter() -> Iterator[tuple[int, ...]]:
    fd = length_filter()
    try:
        yield () if fd is None else (fd,)
    finally:
        if fd is not None:
            os.close(fd)


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process of ours ends within so many seconds. It is told of at once, which
    `Popen.wait` with a limit does up to 50 ms later."""
    if process.poll() is None:
        with open(os.pidfd_open(process.pid), "rb") as pidfd:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            ended.poll(seconds * 1000)
    return process.poll() is not None


def _watch(
    process: subprocess.Popen[bytes], output: BinaryIO, watch: Callable[[bytes], None], limit: float
) -> None:
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        ended_within(process, _WATCH_EVERY)
        # The tool writes where its own offset is, which is ours too: so not by reading on.
        watch(os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0))


def _give_up(
    process: subprocess.Popen[bytes], give_up: Callable[[float], None], limit: float
) -> None:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + limit:
        if ended_within(process, _WATCH_EVERY):
            return
        try:
            give_up(time.monotonic() - began)
        except BaseException:
            _kill_group(process)
            process.wait()
            raise


def _wait(
    process: subprocess.Popen[bytes], tool: str, timeout: float, *, kill: bool
) -> tuple[bytes, bytes]:
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if not kill:
            raise LeftRunning(
                f"{tool} has not ended within {timeout:.0f} s; it was left to go on, since"
                f" stopping it could do harm (pid {process.pid})"
            ) from None
        _kill_group(process)
        process.communicate()
        raise Error(f"{tool} did not end within {timeout:.0f} s and was stopped") from None


def _memory_file() -> BinaryIO:
    return open(os.memfd_create("output"), "w+b")


def _contents(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


@contextmanager
def filter_process(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A confined tool that turns its standard input into its standard output. It is
    killed, if it still runs, when the block is left."""
    process = subprocess.Popen(
        _command(argv, confined=True, dies_with_us=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        bufsize=0,
    )
    try:
        yield process
    finally:
        _kill_group(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        process.wait()


def companion(argv: Sequence[str], *, answers: bool = False) -> subprocess.Popen[bytes]:
    """A process of our own that runs beside us and outlives us; its standard input ends when
    we do. The caller ends it, or closes that input. `answers`: its standard output is read."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if answers else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # bubblewrap has children of its own; all are in the session that we started for it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _command(
    argv: Sequence[str],
    *,
    confined: bool,
    dies_with_us: bool,
    seccomp: Sequence[int] = (),
    users: Sequence[int] = (),
    named: Sequence[int] = (),
    shown: Sequence[str] = (),
) -> list[str]:
    program = programs.require(argv[0])
    if not confined:
        return [program, *argv[1:]]
    return [
        programs.require("bwrap"),
        *sandbox.system(),
        *(word for path in shown for word in ("--ro-bind", path, path)),
        *(word for fd in named for word in sandbox.namesake(fd)),
        *sandbox.namespaces(users),
        *(["--die-with-parent"] if dies_with_us else []),
        *(word for fd in seccomp for word in ("--seccomp", str(fd))),
        "--",
        *bounded(program, *argv[1:]),
    ]


def bounded(*argv: str) -> list[str]:
    """The command that runs `argv` with a bound on its memory, and lets it leave no core file."""
    return [programs.require("prlimit"), f"--as={MEMORY_LIMIT}", "--core=0", *argv]


def environment() -> dict[str, str]:
    """What a tool has of variables."""
    return {"PATH": f"{os.environ.get('PATH', os.defpath)}:{programs.SBIN}", "LC_ALL": "C.UTF-8"}
