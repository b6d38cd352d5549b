"""What is demanded of a row, as functions of its contenders; ours is the first."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.model import MEMORY, Contender, Demand, named, ratio
from bench.race import Judge

#: A process's memory, in MB, whatever the size of the image.
MEGABYTES = 120


def faster(peer: str, limit: float) -> Judge:
    """`limit` times as fast as a peer."""

    def judge(all_: Sequence[Contender]) -> Demand:
        return Demand(f"as fast as {peer}", ratio(all_[0], named(all_, peer)), limit, True)

    return judge


def faster_than_best(peers: tuple[str, ...], limit: float) -> Judge:
    def judge(all_: Sequence[Contender]) -> Demand:
        ratios = [ratio(all_[0], named(all_, peer)) for peer in peers]
        known = [each for each in ratios if each is not None]
        best = min(known) if known else None
        return Demand(f"as fast as the faster of {' and '.join(peers)}", best, limit, True)

    return judge


def no_slower(peer: str, limit: float) -> Judge:
    """At most `limit` times a peer's time."""

    def judge(all_: Sequence[Contender]) -> Demand:
        value = ratio(all_[0], named(all_, peer))
        return Demand(f"time of {peer}", 1 / value if value else None, limit, False)

    return judge


def no_slower_than_sum(peers: tuple[str, ...], limit: float) -> Judge:
    def judge(all_: Sequence[Contender]) -> Demand:
        times = [each.seconds for each in (all_[0], *(named(all_, peer) for peer in peers))]
        known = [each for each in times if each is not None]
        value = known[0] / sum(known[1:]) if len(known) == len(times) else None
        return Demand(f"time of {' plus '.join(peers)}", value, limit, False)

    return judge


def smaller(peer: str, limit: float) -> Judge:
    """What it made, against what a peer made."""

    def judge(all_: Sequence[Contender]) -> Demand:
        ours, theirs = all_[0].made, named(all_, peer).made
        value = ours / theirs if ours and theirs else None
        return Demand(f"size of the archive of {peer}", value, limit, False)

    return judge


def within(seconds: float) -> Judge:
    def judge(all_: Sequence[Contender]) -> Demand:
        return Demand("time", all_[0].seconds, seconds, False, "s")

    return judge


def no_later(peer: str, seconds: float) -> Judge:
    """Done at most so much later than a peer, by the median of the pairs."""

    def judge(all_: Sequence[Contender]) -> Demand:
        pairs = zip(all_[0].runs, named(all_, peer).runs, strict=False)
        later = [ours.seconds - theirs.seconds for ours, theirs in pairs]
        value = median(later) if later else None
        return Demand(f"more than {peer}", value, seconds, False, "s")

    return judge


def moved(limit: float) -> Judge:
    """At most so many bytes over the wire."""

    def judge(all_: Sequence[Contender]) -> Demand:
        bytes_ = all_[0].transferred
        value = None if bytes_ is None else bytes_ / 1e6
        return Demand("bytes over the wire", value, limit / 1e6, False, "MB")

    return judge


def memory_within(megabytes: int) -> Judge:
    """`memory`, of a row that has a limit of its own."""

    def judge(all_: Sequence[Contender]) -> Demand:
        value = memory(all_).value
        return Demand("resident in one of its processes", value, megabytes, False, "MB")

    return judge


def memory(all_: Sequence[Contender]) -> Demand:
    """The largest process of any run of ours."""
    peaks = [each.peak for each in all_ if each.peak and each.command.startswith("virtstore")]
    value = max(peaks) / 1e6 if peaks else None
    return Demand(MEMORY, value, MEGABYTES, False, "MB")
