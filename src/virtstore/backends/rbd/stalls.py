"""What is written to a pool that is full waits until there is room, and nobody is told.

So a process looks after each image that is open for writing. It asks the cluster now and then
whether the pool is full; if it is, it says so and ends the daemon that serves the image, and the
write fails for want of room. A storage daemon (OSD) that is away makes writes wait as well, and
nothing is ended for that.

It is no thread of the agent's, and is started before the image is open. What the agent starts later
inherits the image's descriptor and closes it, for which the daemon is told to flush: so whoever
would start a program to ask would wait for the daemon himself.

Source: Ceph's documentation, "Monitor Config Reference" on full ratios; librados' Objecter;
fuse(4), FUSE_FLUSH.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from virtstore import run
from virtstore.backends.rbd.cluster import Cluster
from virtstore.errors import Error, NoSpace
from virtstore.own_programs import module_argv

#: Seconds between two questions. Each takes a third of a second of processor time.
_EVERY: Final = 10.0


class Lookout:
    """The process that looks after an image, which is not open yet."""

    def __init__(self, cluster: Cluster) -> None:
        words = msgspec.json.encode(cluster).decode()
        argv = [*module_argv("virtstore.backends.rbd.stalls"), words]
        self._process = run.companion(argv, answers=True)
        self._lock = threading.Lock()
        self._full = ""
        self._open = True

    def begin(self, daemon: int) -> None:
        """The image is open: this process serves it."""
        assert self._process.stdin
        with suppress(OSError):  # it died: nobody looks, and nothing else is the worse for it
            self._process.stdin.write(b"%d\n" % daemon)
            self._process.stdin.flush()

    @property
    def full(self) -> str:
        """Why the daemon was ended, in words; "" where it was not."""
        answers = self._process.stdout
        assert answers
        with self._lock:
            if self._open and not self._full and select.select([answers], [], [], 0)[0]:
                self._full = os.read(answers.fileno(), 4096).decode("utf-8", "replace").strip()
            return self._full

    @contextmanager
    def minded(self) -> Iterator[None]:
        """Raises `NoSpace` where what is done in the block fails because of a full pool."""
        try:
            yield
        except (OSError, Error):
            if full := self.full:
                raise NoSpace(full) from None
            raise

    def close(self) -> None:
        _ = self.full  # as long as it can be asked
        with self._lock:
            self._open = False
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


def main() -> None:
    """The process."""
    cluster = msgspec.json.decode(sys.argv[1], type=Cluster)
    line = sys.stdin.buffer.readline()
    if not line:
        return  # it was never open
    with suppress(ProcessLookupError):  # it has ended already: whoever writes is told so
        _look_after(cluster, os.pidfd_open(int(line)))


def _look_after(cluster: Cluster, daemon: int) -> None:
    """End the daemon once the pool is full, unless it ends before. Where the agent was killed, it
    is told to end, and waits for room before it does."""
    while not select.select([daemon], [], [], _EVERY)[0]:
        full = ""
        with suppress(Error):  # nobody answers: the write may still be answered
            full = cluster.why_full()
        if full:
            with suppress(BrokenPipeError):  # the agent was killed
                os.write(sys.stdout.fileno(), full.encode())
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            return


if __name__ == "__main__":
    main()
