"""One of several hosts that are asked at once: what it is asked, in a thread, and how it is
ended from another.

Nobody gets the questions of fifty ssh at once: each host is first asked without any, and those that
then refuse the login ask their questions one after the other, where there is a user to answer them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

from virtstore.cli.meter import HostsMeter
from virtstore.cli.options import Common
from virtstore.client import ssh
from virtstore.client.api import Host
from virtstore.errors import ConnectionFailed, Error
from virtstore.location import HostAddress, Location
from virtstore.progress import ProgressCallback

Result = TypeVar("Result")
Ask = Callable[[Host, Location, ProgressCallback], Result]

#: Seconds that a host has until its agent answers, where no question of ssh's can be in the way.
_TO_GREET: Final = 60.0
#: Seconds before a host that lets in few at a time is asked again, each time.
_CROWDED: Final = (1.0, 3.0)


class Outcomes(Generic[Result]):
    """What locations led to, by their numbers, as threads find it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._outcomes: dict[int, Result | Error] = {}
        self._broken: BaseException | None = None

    def put(self, number: int, outcome: Result | Error) -> None:
        with self._changed:
            self._outcomes[number] = outcome
            self._changed.notify_all()

    def break_with(self, defect: BaseException) -> None:
        """Note the defect of a thread, for whoever waits."""
        with self._changed:
            self._broken = self._broken or defect
            self._changed.notify_all()

    def taken(self, number: int, seconds: float) -> Result | Error | None:
        """An outcome, which is not kept; None where there is none within so many seconds. Raises
        the defect of a thread."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._outcomes or self._broken, seconds)
            if self._broken:
                raise self._broken
            return self._outcomes.pop(number, None)


class Turn(Generic[Result]):
    """One host: what it is asked, in a thread, and how it is ended from another. `among_many`:
    others are logged in to at the same time; `timeout`: seconds that it has."""

    def __init__(
        self,
        address: HostAddress,
        places: Sequence[tuple[int, Location]],
        ask: Ask[Result],
        options: Common,
        found: Outcomes[Result],
        meter: HostsMeter,
        *,
        among_many: bool,
        timeout: float | None,
    ) -> None:
        self.name = address.name
        self.is_asking = False
        self.is_over = False
        self._address, self._places = address, places
        self._ask, self._options = ask, options
        self._found, self._meter = found, meter
        self._among_many, self._timeout = among_many, timeout
        self._lock = threading.Lock()
        self._host: Host | None = None
        self._began: float | None = None
        self._is_in = False
        self._why: Error | None = None  # it was ended
        self._ended = threading.Event()
        self._ending: threading.Thread | None = None

    def take(self) -> None:
        """Ask the host for all that it is to be asked."""
        self._began = time.monotonic()
        left = dict(self._places)
        try:
            self._log_in()
            for number, place in self._places:
                self._found.put(number, self._answer(place))
                del left[number]
        except Error as error:  # it was not reached, or was ended
            for number in left:
                self._found.put(number, self._why or error)
        except BaseException as defect:
            self._found.break_with(defect)
        finally:
            self.is_over = True
            if self._host:
                self._host.close()

    def _answer(self, place: Location) -> Result | Error:
        assert self._host
        try:
            with self._meter.of(str(place)) as progress:
                return self._ask(self._host, place, progress)
        except Error as error:
            if self._why:
                raise
            return error

    def _log_in(self) -> None:
        """Open the session. Raises `ConnectionFailed`."""
        if not self._among_many:
            self._open_new(())
            return
        try:
            self._open_when_there_is_room(ssh.options_among_many(self._address))
        except ConnectionFailed as error:
            if self._why or not ssh.would_ask(self._address, error.message):
                raise
            self.is_asking = True
            try:
                self._open_new(ssh.options_among_many(self._address, asks=True))
            finally:
                self._began, self.is_asking = time.monotonic(), False

    def _open_when_there_is_room(self, options: tuple[str, ...]) -> None:
        for pause in _CROWDED:
            try:
                self._open_new(options)
                return
            except ConnectionFailed as error:
                if not ssh.is_crowded(error.message) or self._ended.wait(pause):
                    raise
        self._open_new(options)

    def _open_new(self, ssh_options: tuple[str, ...]) -> None:
        host = Host(
            self._address,
            config=self._options.config,
            verbose=self._options.verbose,
            ssh_options=ssh_options,
        )
        with self._lock:
            self._host = host
            if self._ended.is_set():
                raise self._why or ConnectionFailed("it was ended", host=self.name)
        host.open(shared=False)
        self._is_in = True

    def end_if_late(self) -> None:
        """End it where it has had its time. What keeps a user thinking is no time of its."""
        if self._began is None or self.is_over or self.is_asking or self._ending:
            return
        limit = self._timeout
        if limit is None and not self._is_in and self._address.host is not None:
            limit = _TO_GREET
        if limit is not None and time.monotonic() - self._began > limit:
            self._why = self._too_late(limit)
            self._ending = threading.Thread(target=self.end, name=f"end of {self.name}")
            self._ending.start()

    def _too_late(self, limit: float) -> Error:
        allowed = f"within {limit:g} s" + (", as --timeout says" if self._timeout else "")
        if self._is_in:
            told = (
                f"it has not answered {allowed}, though a session with it is open: look there for"
                " what keeps it (ps, dmesg), or give it longer"
            )
        else:
            told = (
                f"no session with it could be opened {allowed}: ask it alone, with --verbose, which"
                " waits and shows how far that gets"
            )
        return ConnectionFailed(told, host=self.name)

    def wait(self) -> None:
        """Wait until what was late has been ended, and no process is left of it."""
        if self._ending:
            self._ending.join()

    def end(self) -> None:
        """End what it does, from another thread."""
        with self._lock:
            self._ended.set()
            host = self._host
        if host and not self.is_over:
            with suppress(Error):
                host.abort()
