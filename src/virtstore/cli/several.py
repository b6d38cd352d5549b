"""One command for several locations: each is done by itself. What fails hides no other, and the
exit status is that of the first that failed.

With `--jobs` several are done at the same time, each in a thread. Hosts are logged in to before
that, one after the other, so that no question of ssh's comes between the bars. Ctrl-C, and a defect
in a thread, end what all of them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Final, NamedTuple, TypeVar

from virtstore.cli.meter import meters
from virtstore.cli.options import Common, open_at
from virtstore.cli.render import error_json, print_error, print_json
from virtstore.client.api import Host
from virtstore.errors import Error, UsageError
from virtstore.location import HostAddress, Location
from virtstore.progress import ProgressCallback

Item = TypeVar("Item")
Result = TypeVar("Result")

#: So many at a time at the most: each is a process here, and one on each of its hosts.
_MOST_JOBS: Final = 64


class Sessions:
    """The hosts of a command. Of each there is one, opened when it is first needed."""

    def __init__(self, options: Common, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._hosts: dict[HostAddress, Host] = {}
        self._failed: dict[HostAddress, Error] = {}

    def __call__(self, location: Location) -> Host:
        """The host of a location. Raises why `log_in` could not open a session with it."""
        address = location.address
        if address in self._failed:
            raise self._failed[address]
        if address not in self._hosts:
            self._hosts[address] = self._stack.enter_context(open_at(location, self._options))
        return self._hosts[address]

    def log_in(self, locations: Iterable[Location]) -> None:
        """Open a session with each host, over a connection that all further ones share."""
        for location in {each.address: each for each in locations}.values():
            try:
                self(location).open()
            except Error as error:  # of whatever is there
                self._failed[location.address] = error

    def abort(self) -> None:
        """End what all threads do."""
        for host in self._hosts.values():
            host.abort()


@contextmanager
def sessions(options: Common) -> Iterator[Sessions]:
    """The hosts of a command, each with one session for all locations on it."""
    with ExitStack() as stack:
        yield Sessions(options, stack)


class AtOnce(NamedTuple):
    """Several at the same time: `jobs` threads, which `abort` ends. Results are printed within
    `pause`, in which nothing else is drawn."""

    jobs: int
    abort: Callable[[], None]
    pause: Callable[[], AbstractContextManager[object]]


def with_progress(
    places: Sequence[Location],
    do: Callable[[Sessions, Location, ProgressCallback], Result],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    flat: bool = False,
    apart: bool = False,
    jobs: int | None = None,
    others: Sequence[Location] = (),
    first: Callable[[Sessions], None] = lambda hosts: None,
) -> int:
    """As `for_each`, of what tells its progress; `jobs` at a time. `others`: locations that each
    needs besides. `first` raises what would be wrong with each. Raises `UsageError`."""
    refuse_jobs(jobs)
    with sessions(options) as hosts:
        if min(jobs or 1, len(places)) > 1:
            hosts.log_in((*places, *others))
        first(hosts)
        return on_hosts(hosts, places, do, text, options, flat=flat, apart=apart, jobs=jobs)


def refuse_jobs(jobs: int | None) -> None:
    """Raises `UsageError` for a number of jobs that cannot be."""
    if jobs is not None and not 1 <= jobs <= _MOST_JOBS:
        raise UsageError(f"--jobs {jobs}: between 1 and {_MOST_JOBS} can be done at a time")


def on_hosts(
    hosts: Sessions,
    places: Sequence[Location],
    do: Callable[[Sessions, Location, ProgressCallback], Result],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    flat: bool = False,
    apart: bool = False,
    jobs: int | None = None,
    listed: bool = False,
) -> int:
    """As `with_progress`, on hosts that are logged in to where several are done at a time."""
    jobs = max(min(jobs or 1, len(places)), 1)
    with meters(options, len(places), jobs) as meter:

        def done(at: Location) -> Result:
            with meter.of(str(at)) as progress:
                return do(hosts, at, progress)

        together = AtOnce(jobs, hosts.abort, meter.pause) if jobs > 1 else None
        return for_each(
            places,
            done,
            text,
            options,
            flat=flat,
            apart=apart,
            together=together,
            listed=listed,
        )


def for_each(
    items: Sequence[Item],
    do: Callable[[Item], Result],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    flat: bool = False,
    apart: bool = False,
    together: AtOnce | None = None,
    listed: bool = False,
) -> int:
    """Do the work for each location and print what it led to, in the order of the locations, as
    `tell` does. JSON of one location is a document of its own, unless `listed`."""
    outcomes = _side_by_side(items, do, together) if together else _in_turn(items, do)
    return tell(
        outcomes,
        text,
        options,
        alone=len(items) == 1 and not listed,
        flat=flat,
        apart=apart,
        pause=together.pause if together else nullcontext,
    )


def tell(
    outcomes: Iterator[Result | Error],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    alone: bool,
    flat: bool = False,
    apart: bool = False,
    pause: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> int:
    """Print what each location led to, as `text` or as JSON. JSON of one that stands `alone` is a
    document of its own; of several it is a list, in which a failure is `{"error": …}`. `flat`: each
    result is a list, and these are joined. `apart`: an empty line stands between two texts.
    `pause`: nothing else is drawn within. Returns the exit status."""
    told: list[object] = []
    status, gap = 0, ""
    for outcome in outcomes:
        if isinstance(outcome, Error):
            if alone:
                raise outcome
            status = status or outcome.exit_status
            told.append(error_json(outcome))
            if not options.json:
                with pause():
                    print_error(outcome, as_json=False)
            continue
        if not options.json:
            with pause():
                if (line := text(outcome)) is not None:
                    print(f"{gap}{line}", flush=True)
                    gap = "\n" if apart else ""
        else:
            told += outcome if flat and not alone and isinstance(outcome, list) else [outcome]
    if options.json:
        print_json(told[0] if alone else told)
    return status


def _in_turn(items: Sequence[Item], do: Callable[[Item], Result]) -> Iterator[Result | Error]:
    for item in items:
        try:
            yield do(item)
        except Error as error:
            yield error


def _side_by_side(
    items: Sequence[Item], do: Callable[[Item], Result], together: AtOnce
) -> Iterator[Result | Error]:
    """The outcomes in the order of `items`. Where this is left early, or a thread fails with a
    defect, all threads are ended before that is raised."""
    broken: list[BaseException] = []

    def done(item: Item) -> Result | Error:
        try:
            return do(item)
        except Error as error:
            return error
        except BaseException as error:
            broken.append(error)
            together.abort()  # wakes whoever waits for a host
            raise

    pool = ThreadPoolExecutor(together.jobs)
    try:
        for future in [pool.submit(done, item) for item in items]:
            outcome = future.result()
            if broken:
                raise broken[0]
            yield outcome
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        together.abort()
        raise
    finally:
        pool.shutdown()
