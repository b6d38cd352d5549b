"""A night of backups, as a queue: each host works through its images, a few at a time, and all that
go to one target share it.

Every copy on a target moves at the same rate: what its own host gives it, or an even share of the
target, whichever is less. So a copy ends once the target has given each of its copies as many
bytes as that image has, and one heap of such ends for each target is the whole simulation. It is
deterministic: sizes are quantiles of a log-normal distribution, dealt out by a seeded shuffle.
"""

from __future__ import annotations

import heapq
import random
from statistics import NormalDist
from typing import Final, NamedTuple

import msgspec

from bench.scale.figures import Costs, Fleet, Machine

_SEED: Final = 17
#: Most images are small and some are huge: the standard deviation of the logarithm.
_SPREAD: Final = 1.0


class Kind(msgspec.Struct, frozen=True):
    """What a night copies. `changed`: the share of each image that is not in its last backup; None
    where every backup is whole."""

    name: str
    changed: float | None


class Load(NamedTuple):
    """What an image's byte costs: seconds of processor at its host and at its target, and bytes
    over the wire, which are those that are written there."""

    host_cpu: float
    target_cpu: float
    wire: float


class Limit(NamedTuple):
    """Bytes of images a second, and what does not allow more."""

    rate: float
    by: str


class Night(NamedTuple):
    """`ended`: when the last copy did, in seconds. `busy`: the part of that in which the targets
    had all that they can do."""

    ended: float
    busy: float
    host: Limit
    target: Limit


def load_of(costs: Costs, kind: Kind) -> Load:
    """What is measured of a whole copy, and of one of which nothing or all had changed."""
    if kind.changed is None:
        return Load(
            costs["full-host-cpu"] / 1e9, costs["full-target-cpu"] / 1e9, costs["compressed"]
        )
    same, changed = 1 - kind.changed, kind.changed
    return Load(
        (same * costs["same-host-cpu"] + changed * costs["full-host-cpu"]) / 1e9,
        (same * costs["same-target-cpu"] + changed * costs["full-target-cpu"]) / 1e9,
        same * costs["same-wire"] + changed * costs["compressed"],
    )


def limit_of_host(load: Load, host: Machine) -> Limit:
    """How fast a host can read, compress and send."""
    return _least(
        disks=host.read,
        processors=host.cores / load.host_cpu,
        network=host.network / load.wire,
    )


def limit_of_target(load: Load, target: Machine) -> Limit:
    """How fast a target takes and writes."""
    return _least(
        disks=target.write / load.wire,
        processors=target.cores / load.target_cpu,
        network=target.network / load.wire,
    )


def _least(**rates: float) -> Limit:
    by = min(rates, key=lambda name: rates[name])
    return Limit(rates[by], by)


def sizes(fleet: Fleet) -> list[list[float]]:
    """The sizes of the images, by host, in the order in which they are copied."""
    curve = NormalDist()
    raw = [curve.inv_cdf((n + 0.5) / fleet.images) for n in range(fleet.images)]
    weights = [2.718281828459045 ** (_SPREAD * each) for each in raw]
    whole = sum(weights)
    dealt = [fleet.size * weight / whole for weight in weights]
    random.Random(_SEED).shuffle(dealt)
    # The largest first: else the last of a night is the one that takes hours.
    return [sorted(dealt[host :: fleet.hosts], reverse=True) for host in range(fleet.hosts)]


def night(fleet: Fleet, load: Load, host: Machine, target: Machine, targets: int) -> Night:
    """One night with so many targets, hosts dealt out to them in turn."""
    of_host, of_target = limit_of_host(load, host), limit_of_target(load, target)
    lane = of_host.rate / fleet.at_once
    everything = sizes(fleet)
    ends = [
        _on_target(everything[number::targets], fleet.at_once, lane, of_target.rate)
        for number in range(targets)
    ]
    ended = max(end for end, _ in ends)
    busy = sum(used for _, used in ends) / (len(ends) * ended)
    return Night(ended, busy, of_host, of_target)


def _on_target(
    hosts: list[list[float]], at_once: int, lane: float, rate: float
) -> tuple[float, float]:
    """When the last copy on a target ends, and for how many seconds the target was the limit.
    `lane`: bytes a second that a host gives one copy; `rate`: those that the target takes."""
    waiting = [list(reversed(images)) for images in hosts]
    ends: list[tuple[float, int]] = []  # by what each copy has been given until then
    for number, images in enumerate(waiting):
        for _ in range(min(at_once, len(images))):
            heapq.heappush(ends, (images.pop(), number))
    now = given = full = 0.0
    while ends:
        share = min(lane, rate / len(ends))
        end, number = heapq.heappop(ends)
        took = (end - given) / share
        full += took if share < lane else 0
        now, given = now + took, end
        if waiting[number]:
            heapq.heappush(ends, (end + waiting[number].pop(), number))
    return now, full


def targets_needed(fleet: Fleet, load: Load, host: Machine, target: Machine) -> int | None:
    """The fewest targets with which the night is long enough; None where no number helps."""
    low, high = 0, fleet.hosts  # too few, enough
    if night(fleet, load, host, target, high).ended > fleet.window:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if night(fleet, load, host, target, middle).ended > fleet.window:
            low = middle
        else:
            high = middle
    return high
