"""Several hosts, asked at the same time: each in a thread, its locations in turn over one session.

What they answer comes in the order in which they were named. A host that is dead, slow or silent
keeps no other from being asked: it fails by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from virtstore.cli.host_turn import Ask, Outcomes, Result, Turn
from virtstore.cli.meter import HostsMeter, hosts_meter
from virtstore.cli.options import Common
from virtstore.cli.several import sessions, tell
from virtstore.errors import Error
from virtstore.location import HostAddress, Location

#: So many hosts at a time: each is a process here, and one there.
_MOST: Final = 50
#: Seconds between two looks at who is late.
_BEAT: Final = 0.2


def on_each_host(
    places: Sequence[Location],
    ask: Ask[Result],
    text: Callable[[Result], str | None],
    options: Common,
    *,
    timeout: float | None = None,
    flat: bool = False,
    apart: bool = False,
) -> int:
    """As `several.for_each`, of locations on any number of hosts. `timeout`: seconds that each host
    has for all that it is asked."""
    alone = len(places) == 1
    with closing(answers(places, ask, options, timeout=timeout)) as found:
        return tell(found, text, options, alone=alone, flat=flat, apart=apart)


def answers(
    places: Sequence[Location], ask: Ask[Result], options: Common, *, timeout: float | None = None
) -> Generator[Result | Error]:
    """What each location led to, in their order. Whoever closes this early ends all of it."""
    numbers: dict[HostAddress, list[int]] = {}
    for number, place in enumerate(places):
        numbers.setdefault(place.address, []).append(number)
    with hosts_meter(options, len(places), len(numbers)) as meter:
        if len(numbers) == 1 and timeout is None:
            yield from _in_turn(places, ask, options, meter)
            return
        among_many = len(numbers) > 1
        found: Outcomes[Result] = Outcomes()
        turns = [
            Turn(
                address,
                [(number, places[number]) for number in of_host],
                ask,
                options,
                found,
                meter,
                among_many=among_many,
                timeout=timeout,
            )
            for address, of_host in numbers.items()
        ]
        yield from _at_once(turns, found, len(places), meter)


def _in_turn(
    places: Sequence[Location], ask: Ask[Result], options: Common, meter: HostsMeter
) -> Iterator[Result | Error]:
    """Of one host, which may ask its user what it likes."""
    with sessions(options) as hosts:
        for place in places:
            outcome: Result | Error
            try:
                with meter.of(str(place)) as progress:
                    outcome = ask(hosts(place), place, progress)
            except Error as error:
                outcome = error
            yield outcome  # it is printed where nothing is drawn any more


def _at_once(
    turns: Sequence[Turn[Result]], found: Outcomes[Result], count: int, meter: HostsMeter
) -> Iterator[Result | Error]:
    pool = ThreadPoolExecutor(min(_MOST, len(turns)))
    try:
        for turn in turns:
            pool.submit(turn.take)
        for number in range(count):
            while (outcome := found.taken(number, _BEAT)) is None:
                for turn in turns:
                    turn.end_if_late()
                _show(turns, meter)
            meter.clear()
            yield outcome
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end_all(turns)
        raise
    finally:
        pool.shutdown()
        for turn in turns:
            turn.wait()


def _end_all(turns: Sequence[Turn[Result]]) -> None:
    """All at once: one that cannot be ended takes its time."""
    with ThreadPoolExecutor(_MOST) as pool:
        for turn in turns:
            pool.submit(turn.end)


def _show(turns: Sequence[Turn[Result]], meter: HostsMeter) -> None:
    if any(turn.is_asking for turn in turns):
        meter.clear()  # what ssh asks stands there
    else:
        meter.show([turn.name for turn in turns if not turn.is_over], len(turns))
