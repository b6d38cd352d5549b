"""What is found out before it is asked for: each `rbd` takes a tenth of a second, and most of them
need not wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Ahead(Generic[Result]):
    """What `work` returns or raises. A thread does it, which keeps no process from ending."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._done: Future[Result] = Future()
        threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def result(self) -> Result:
        """Wait for it."""
        return self._done.result()

    def _run(self) -> None:
        try:
            self._done.set_result(self._work())
        except BaseException as error:
            self._done.set_exception(error)
