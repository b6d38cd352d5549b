"""Notes that are made of a row's figures, so that a page says what was measured for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.model import Contender, named, ratio
from bench.race import Remark

#: Ratios within so much of one are no difference: single runs are further apart.
_SAME: Final = 0.05


def beside(peer: str, spared: str) -> Remark:
    """Whether a peer is as fast, and what work it is `spared` that ours does."""

    def remark(all_: Sequence[Contender]) -> str:
        value = ratio(all_[0], named(all_, peer))
        return "" if value is None else f"`{peer}` is {_speed(value)}. {spared}".strip()

    return remark


def _speed(value: float) -> str:
    """In words, of a peer that takes `value` times as long as ours."""
    if value < 1 - _SAME:
        return f"faster than virtstore: it takes {value:.2f} times as long"
    if value <= 1 + _SAME:
        return "as fast as virtstore"
    return f"slower than virtstore: it takes {value:.2f} times as long"
