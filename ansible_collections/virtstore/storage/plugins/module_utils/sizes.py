"""Sizes, as virtstore takes them: bytes, or a number with a unit."""

from __future__ import annotations

import re
from fractions import Fraction

from ansible_collections.virtstore.storage.plugins.module_utils.failure import Failure

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b)?|b)?", re.IGNORECASE | re.ASCII)
_PREFIXES = "kmgtp"


def bytes_of(text: str) -> int:
    """Bytes in a size such as `10G`, `1.5GiB`, `500MB` or `4096`. Raises Failure for anything else,
    and for `+5G`: a task says what is to be, and would grow an image each time it is run."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise Failure(
            "usage",
            f"{text!r} is no size: write bytes, or a number with K, M, G, T or P (10G), and neither"
            " +SIZE nor -SIZE, which would be another size with each run",
        )
    number, prefix, suffix = found.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    exponent = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
    return int(-(-Fraction(number) * base**exponent // 1))
