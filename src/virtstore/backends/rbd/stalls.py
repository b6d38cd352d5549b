"""What is written to a pool that is full waits until there is room, and nobody is told.

So who writes is looked after. Where a write takes long, the cluster is asked whether the pool is
full; if it is, the daemon that serves the image is ended, and the write fails for want of room. A
storage daemon (OSD) that is away makes writes take long as well, and nothing is ended for that.

Who asks the cluster is a process that was started before the image was opened. A process that is
started later inherits the image's descriptor and closes it, for which the daemon is told to flush:
so it would wait for what it is to look after.

Source: Ceph's documentation, "Monitor Config Reference" on full ratios; librados' Objecter;
fuse(4), FUSE_FLUSH.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from virtstore import run
from virtstore.backends.rbd import report
from virtstore.backends.rbd.cluster import LONG, Cluster
from virtstore.errors import Error, NoSpace

#: Seconds between two looks.
_EVERY: Final = 2.0
#: Runs its words for each line that it reads, and says so when they have ended.
_SCRIPT: Final = 'while read -r _; do "$@" 2>/dev/null; printf "\\nend\\n"; done'


class Asking:
    """A process that asks the cluster whether the pool is full."""

    def __init__(self, cluster: Cluster) -> None:
        self._pool = cluster.pool
        argv = cluster.monitors_argv("osd", "dump")
        self._process = run.companion(["/bin/sh", "-c", _SCRIPT, "sh", *argv], answers=True)

    def why_full(self) -> str:
        """Why there is no room, or nothing. Raises `Error` where nobody answers."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked
        assert answers
        said = []
        try:
            asked.write(b"\n")
            asked.flush()
            while (line := answers.readline()) != b"end\n":
                if not line:
                    raise Error("whoever asks the cluster was ended")
                said.append(line)
        except (OSError, ValueError) as error:  # it is ended
            raise Error(f"nobody can be asked: {error}") from None
        return report.why_full(b"".join(said), self._pool)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


class Stalls:
    """Looks after the writes to one image. `end` makes all of them fail."""

    def __init__(self, asking: Asking, end: Callable[[], None]) -> None:
        self._asking, self._end = asking, end
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        #: Why the daemon was ended, if it was.
        self.full = ""

    @contextmanager
    def minded(self) -> Iterator[None]:
        """Raises `NoSpace` where what is done in the block fails because of a full pool."""
        key = threading.get_ident()
        with self._lock:
            self._begun[key] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="stalls", daemon=True)
                self._thread.start()
        try:
            yield
        except (OSError, Error):
            if self.full:
                raise NoSpace(self.full) from None
            raise
        finally:
            with self._lock:
                self._begun.pop(key, None)

    def close(self) -> None:
        self._over.set()
        self._asking.close()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            with self._lock:
                oldest = min(self._begun.values(), default=None)
            if oldest is None or time.monotonic() - oldest < LONG:
                continue
            with suppress(Error):  # nobody answers: the write may still be answered
                self.full = self._asking.why_full()
            if self.full:
                self._end()
                return
