"""A disk that QEMU's storage daemon serves as a plain file: a descriptor of its contents.

The daemon runs in bubblewrap, without a network and with no file but the descriptors that it
inherits; where the disk lies in a cluster, with a network and the few files that lead there
(`Reaches`). It mounts the disk by FUSE in a mount namespace of its own, where the file is opened
through /proc. So nothing is mounted on the host, however this ends, and an image that takes the
daemon over has gained nothing but itself.

The daemon ends when nobody holds the descriptor `keeps` any more: not with this process, because a
tool that changes a disk and outlives us needs it until it is done.

Nothing may be written by mappings, nor past the page cache in pieces longer than `_PIECE`: QEMU 7.2
keeps a request's bytes in one buffer until they are written, and a second request to write,
meanwhile, overwrites them there ("fuse: Copy write buffer content before polling" mended that). The
kernel holds the file's lock until what a call writes is answered. Through the cache it sends one
request at a time, past it all of a call's at once. Requests to read are no longer than the head of
one to write, of which nothing is needed any more.

Sources: qemu-storage-daemon(1), QEMU's QMP reference, fuse(4), bwrap(1). Host tools needed:
qemu-storage-daemon (Debian: qemu-system-common), bubblewrap.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Final, NamedTuple

from virtstore import programs, run, sandbox, user_namespace
from virtstore.errors import Corrupt, Error, InUse, Unsupported
from virtstore.text import remark

#: A node of QEMU's block layer, as QMP's `blockdev-add` takes it.
Node = Mapping[str, object]

DAEMON: Final = "qemu-storage-daemon"
#: What to do where it died.
MEND: Final = (
    "was it killed, or was there no memory left ('journalctl -k' on that host)? Run the same"
    " command again: it does what is left to do, or says what has to be done first"
)
#: Bytes that the kernel writes by one request, which has up to 256 pages, wherever they lie.
_PIECE: Final = 512 << 10
#: The name of the node that is served.
DISK: Final = "disk"

_FUSE: Final = "/dev/fuse"
_MOUNT_POINT: Final = "/run/disk"
#: Seconds that a daemon may take to serve a disk, on a machine under load, and to end.
_PATIENCE: Final = 60.0
#: The daemon, and beside it who ends it: reading fails once nobody has the other end open. The
#: daemon is its namespace's first process, which a signal reaches only once it is waited for; and
#: with which all others of the namespace end. dash reads from no descriptor of two digits.
_SCRIPT: Final = '(read -r _ </proc/self/fd/{fd}; while kill $$; do sleep 0.1; done) & exec "$@"'
#: What QEMU's programs say of an image that somebody else has locked.
LOCKED: Final = ("Failed to get", "lock")
#: What fuse(4)'s device answers once nobody serves it, and to what was under way just then.
_GONE: Final = (errno.ENOTCONN, errno.ECONNABORTED)
_ENDED: Final = f"QEMU's {DAEMON} ended when it began to serve the disk; {MEND}"


def _go_on(seconds: float) -> None:
    """Waits for what takes as long as it takes."""


class Reaches(NamedTuple):
    """What a daemon needs beside its disk's own descriptors to reach a disk in a cluster: the
    host's network, and files, which it sees by their paths as copies of these contents. `look` is
    called each second, with the seconds that it took so far, as long as the disk is not served;
    what it raises ends that."""

    files: tuple[tuple[str, bytes], ...] = ()
    look: Callable[[float], None] = _go_on


class Export:
    """The disk of the node `DISK`, served as long as this is open. `fd` is open on its contents,
    and `direct` as well, past the page cache, which costs less. Raises `InUse`
    where somebody else has the image locked, `Unsupported` where the host has no FUSE, and
    `Corrupt` for whatever else the daemon does not open. `reaches`: what leads to a disk in a
    cluster; `child`: the daemon's process."""

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        pass_fds: Sequence[int] = (),
        writable: bool = False,
        reaches: Reaches | None = None,
    ) -> None:
        if not os.path.exists(_FUSE):
            raise Unsupported(
                f"this host has no {_FUSE}, through which {DAEMON} serves the disk of a container;"
                " 'modprobe fuse' makes it, and a line in /etc/modules-load.d does so for good"
            )
        self._process, self.keeps, facts = _started(nodes, pass_fds, writable, reaches)
        self.fd = self.direct = -1
        self.child = 0
        try:
            with facts:
                try:
                    self._await_service(reaches.look if reaches else _go_on)
                finally:
                    self.child = _child_in(facts)
                path = f"/proc/{self.child}/root{_MOUNT_POINT}"
            flags = os.O_RDWR if writable else os.O_RDONLY
            self.fd = os.open(path, flags | os.O_CLOEXEC)
            self.direct = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
        except BaseException as error:
            self.kill()
            self.close()
            if isinstance(error, OSError) and error.errno in (errno.ENOENT, *_GONE):
                raise Error(_ENDED) from error
            raise

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`, from any thread, past the page cache."""
        view = memoryview(data).cast("B")
        while view:
            count = os.pwrite(self.direct, view[:_PIECE], offset)
            view, offset = view[count:], offset + count

    @property
    def died(self) -> bool:
        """Whether the daemon ended although this is open: the kernel asks it for nothing more."""
        try:
            os.lseek(self.fd, 0, os.SEEK_DATA)  # which no cache answers
        except OSError as error:
            return error.errno in _GONE
        return False

    @property
    def ended(self) -> bool:
        """Whether the daemon has ended, and so can write nothing any more."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the daemon, which writes out what it holds. A tool that outlives us keeps it."""
        for fd in (self.fd, self.direct, self.keeps):
            if fd >= 0:
                with suppress(OSError):  # it died: who wrote was told so by fsync
                    os.close(fd)
        self.fd = self.direct = self.keeps = -1
        run.ended_within(self._process, _PATIENCE)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()

    def kill(self) -> None:
        """End the daemon at once, whatever it waits for: what is being read and written fails."""
        if self.child and not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)

    def _await_service(self, look: Callable[[float], None]) -> None:
        """Wait until it greets, which it does once all of its command line is carried out."""
        greeting = self._process.stdout
        assert greeting is not None
        began = time.monotonic()
        while not (ready := select.select([greeting], [], [], 1.0)[0]):
            if (took := time.monotonic() - began) > _PATIENCE:
                break
            look(took)
        if not ready:
            raise Error(f"{DAEMON} did not serve the disk within {_PATIENCE:.0f} s")
        if not greeting.readline():
            self._refuse()

    def _refuse(self) -> None:
        said = self._process.stderr.read() if self._process.stderr else b""
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            raise Error(_ENDED)
        told = next((line for line in lines if DAEMON in line), lines[-1])
        told = remark(told.rpartition("}: ")[2])  # behind the command line that it repeats
        if all(word in told for word in LOCKED):
            raise InUse(f"somebody else has it open, as QEMU's lock on it says ({told})")
        raise Corrupt(f"QEMU's {DAEMON} does not open it: {told}")


def _started(
    nodes: Sequence[Node], pass_fds: Sequence[int], writable: bool, reaches: Reaches | None
) -> tuple[subprocess.Popen[bytes], int, BinaryIO]:
    """The daemon, the descriptor that keeps it, and what bubblewrap tells of it once it serves."""
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    facts = _memory_file()
    ended, keeps = os.pipe()
    try:
        with _users(pass_fds) as users, _shown(reaches) as shown:
            network = sandbox.namespaces(users, administers=True, network=reaches is not None)
            process = subprocess.Popen(
                _command(
                    nodes,
                    writable,
                    [*sandbox.files(shown), *network],
                    users,
                    empty,
                    facts.fileno(),
                    ended,
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(
                    *pass_fds,
                    *users,
                    *(fd for fd, _ in shown),
                    empty,
                    facts.fileno(),
                    ended,
                ),
                env=run.environment(),
                start_new_session=True,
            )
    except BaseException:
        facts.close()
        os.close(keeps)
        raise
    finally:
        os.close(empty)
        os.close(ended)
    return process, keeps, facts


def _memory_file() -> BinaryIO:
    """What bubblewrap can tell something. A pipe would kill it when we die, and its child, which it
    holds up until then, would wait for ever."""
    return open(os.memfd_create("facts"), "w+b", buffering=0)


@contextmanager
def _users(lent: Sequence[int]) -> Iterator[Sequence[int]]:
    """The namespaces of users that the daemon needs (user_namespace.py). Root's mounts in one
    within, in which what hides the host's settings in /proc cannot be taken away."""
    with ExitStack() as stack:
        made = stack.enter_context(user_namespace.nested()) if os.geteuid() == 0 else ()
        yield made or stack.enter_context(run.users_of(lent))


@contextmanager
def _shown(reaches: Reaches | None) -> Iterator[Sequence[tuple[int, str]]]:
    """Descriptors of the contents of files, each with the path by which the daemon is to see it."""
    with ExitStack() as held:
        shown = []
        for path, contents in reaches.files if reaches else ():
            file = held.enter_context(_memory_file())
            file.write(contents)
            file.seek(0)
            shown.append((file.fileno(), path))
        yield shown


def _child_in(facts: BinaryIO) -> int:
    """The process that bubblewrap says it started; 0 where it started none."""
    facts.seek(0)
    with suppress(ValueError, TypeError, KeyError):
        return int(json.load(facts)["child-pid"])
    return 0


def _command(
    nodes: Sequence[Node],
    writable: bool,
    confined: Sequence[str],
    users: Sequence[int],
    empty: int,
    tell: int,
    ended: int,
) -> list[str]:
    export = f"type=fuse,id=export,node-name={DISK},mountpoint={_MOUNT_POINT},allow-other=off"
    return [
        programs.require("bwrap"),
        *sandbox.system(),
        *sandbox.file_server(_MOUNT_POINT, empty),
        *confined,
        *("--as-pid-1", "--info-fd", str(tell)),
        "--",
        *(("unshare", "--mount") if users[1:] else ()),
        *("/bin/sh", "-c", _SCRIPT.format(fd=ended), "sh"),
        *run.bounded(programs.require(DAEMON)),
        *(word for node in nodes for word in ("--blockdev", json.dumps(node))),
        *("--export", f"{export},writable={'on' if writable else 'off'}"),
        *("--chardev", "stdio,id=monitor", "--monitor", "monitor"),
    ]
