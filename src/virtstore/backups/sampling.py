"""Which archives are due on a day, where only a part of them is verified each day.

Each has a place on a circle, by the digest of its name, and each day has a part of that circle,
which begins where the part of the day before ended. So each archive is due once in each round, and
nothing has to be remembered. On a day on which nothing is verified, those that are due are not
looked at in that round.
"""

from __future__ import annotations

import re
from datetime import date
from fractions import Fraction
from typing import Final

from blake3 import blake3

from virtstore.errors import UsageError

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", re.ASCII)
_PLACES: Final = 1 << 64


def parse_share(text: str) -> Fraction:
    """The part that `text` says, such as `"5%"` or `"0.5%"`. Raises `UsageError`."""
    match = _SHARE.fullmatch(text.strip())
    share = Fraction(match[1]) / 100 if match else Fraction(0)
    if not 0 < share <= 1:
        raise UsageError(
            f"{text[:20]!r} is no part of all archives; write a percentage above 0 (5%: each of"
            " them once in 20 days)"
        )
    return share


def is_due(name: str, day: date, share: Fraction) -> bool:
    """Whether the archive of this file name is among the `share` of a day."""
    digest = blake3(name.encode("utf-8", "replace")).digest(8)
    place = Fraction(int.from_bytes(digest), _PLACES)
    return (place - day.toordinal() * share) % 1 < share
