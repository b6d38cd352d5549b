"""One command for several locations: each is done by itself. What fails hides no other, and the
exit status is that of the first that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from virtstore.cli.options import Common, open_at
from virtstore.cli.render import error_json, print_error, print_json
from virtstore.client.api import Host
from virtstore.errors import Error
from virtstore.location import HostAddress, Location

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def sessions(options: Common) -> Iterator[Callable[[Location], Host]]:
    """A function that gives the host of a location, with one session for all locations on it."""
    opened: dict[HostAddress, Host] = {}
    with ExitStack() as stack:

        def host_of(location: Location) -> Host:
            if location.address not in opened:
                opened[location.address] = stack.enter_context(open_at(location, options))
            return opened[location.address]

        yield host_of


def for_each(
    items: Sequence[Item],
    do: Callable[[Item], Result],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    flat: bool = False,
) -> int:
    """Do the work for each location and print what it led to, as `text` or as JSON. JSON of one
    location is a document of its own; of several it is a list, in which a failure is `{"error":
    …}`. `flat`: each result is a list, and these are joined. Returns the exit status."""
    told: list[object] = []
    status = 0
    for item in items:
        try:
            result = do(item)
        except Error as error:
            if len(items) == 1:
                raise
            status = status or error.exit_status
            told.append(error_json(error))
            if not options.json:
                print_error(error, as_json=False)
            continue
        told += result if flat and len(items) > 1 and isinstance(result, list) else [result]
        if not options.json and (line := text(result)) is not None:
            print(line, flush=True)
    if options.json:
        print_json(told[0] if len(items) == 1 else told)
    return status
