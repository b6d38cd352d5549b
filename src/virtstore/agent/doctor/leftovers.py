"""What interrupted operations left, and nobody has gone on with since yesterday."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from virtstore.agent import locks
from virtstore.agent.policy import Policy
from virtstore.backends.base import Store, Stored
from virtstore.backends.kinds import Root
from virtstore.errors import Error
from virtstore.findings import note, ok, warning
from virtstore.model import Finding
from virtstore.units import format_size

_DAY: Final = 86400
#: So many are named; and in so many directories is looked.
_SHOWN: Final = 5
_MOST: Final = 10_000


def left(policy: Policy) -> Iterator[Finding]:
    found: list[Finding] = []
    for root, _ in policy.roots():
        try:
            found += _in_root(policy, root)
        except (Error, OSError):
            continue  # it was said of that root what is wrong with it
    yield from found or [ok("nothing older than a day is left of interrupted operations")]


def _in_root(policy: Policy, root: Root) -> Iterator[Finding]:
    if root.is_image:
        with policy.opened(root) as store:
            yield from _in_store(store, root.path)
        return
    waiting, seen = [root.path], 0
    while waiting and seen < _MOST:
        path, seen = waiting.pop(), seen + 1
        with policy.store(path, "read") as store:
            waiting += [f"{path}/{each.name}" for each in store.scan() if each.type == "directory"]
            yield from _in_store(store, path)


def _in_store(store: Store, path: str) -> Iterator[Finding]:
    old = [each for each in store.scan() if each.state == "partial" and _is_left(store, each)]
    if old:
        names = ", ".join(each.name for each in old[:_SHOWN])
        names += ", …" if len(old) > _SHOWN else ""
        size = format_size(sum(each.allocated for each in old))
        ages = [time.time_ns() - each.modified for each in old if each.modified is not None]
        age = f", untouched for {_count(max(ages) // (_DAY * 10**9), 'day')}" if ages else ""
        yield (warning if ages else note)(
            f"{path}: interrupted operations left {_count(len(old), 'partial image')}"
            f" ({size}{age}): {names}",
            f"the same command again goes on with each; 'virtstore clean' of {path} removes them,"
            ' for whoever has "write" there',
        )
    unmended = [name for name in store.interrupted() if not locks.is_held(store.identity(name))]
    if unmended:
        yield note(
            f"{path}: a crash cut short a change of {', '.join(unmended[:_SHOWN])}",
            "the next command there that may make images mends it; so does 'virtstore clean'",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is_left(store: Store, partial: Stored) -> bool:
    """Whether nobody works on it, nor has since yesterday. Of a volume no time is known."""
    young = partial.modified is not None and partial.modified > time.time_ns() - _DAY * 10**9
    return not young and not locks.is_held(store.identity(partial.name))
