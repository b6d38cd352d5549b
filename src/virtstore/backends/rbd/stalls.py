"""What is written to a pool that is full waits until there is room, and nobody is told.

So who writes is looked after. Where a write takes long, the cluster is asked whether the pool is
full; if it is, the daemon that serves the image is ended, and the write fails for want of room. A
storage daemon (OSD) that is away makes writes take long as well, and nothing is ended for that.

Source: Ceph's documentation, "Monitor Config Reference" on full ratios; librados' Objecter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.backends.rbd.cluster import LONG
from virtstore.errors import Error, NoSpace

#: Seconds between two looks.
_EVERY: Final = 2.0


class Stalls:
    """Looks after the writes to one image. `why_full` says why there is no room, or nothing; `end`
    makes all of the writes fail."""

    def __init__(self, why_full: Callable[[], str], end: Callable[[], None]) -> None:
        self._why_full, self._end = why_full, end
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._full = ""
        self._thread: threading.Thread | None = None

    @contextmanager
    def minded(self) -> Iterator[None]:
        """Raises `NoSpace` where the block fails because of a full pool."""
        key = threading.get_ident()
        with self._lock:
            self._begun[key] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="stalls", daemon=True)
                self._thread.start()
        try:
            yield
        except OSError:
            if self._full:
                raise NoSpace(self._full) from None
            raise
        finally:
            with self._lock:
                self._begun.pop(key, None)

    def close(self) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            with self._lock:
                oldest = min(self._begun.values(), default=None)
            if oldest is None or time.monotonic() - oldest < LONG:
                continue
            try:
                self._full = self._why_full()
            except Error:
                continue  # nobody answers: the write may still be answered
            if self._full:
                self._end()
                return
