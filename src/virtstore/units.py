"""Sizes, rates and ages: what users write and read.

A bare number is bytes; `K M G T P` and `KiB … PiB` are powers of 1024, `KB … PB`
powers of 1000, in either case. Inside virtstore a size is always an int of bytes, and an age one
of seconds.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from virtstore.errors import UsageError

#: What a file offset can hold (off_t); nothing larger is a size.
MAX_SIZE: Final = 2**63 - 1

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b)?|b)?", re.IGNORECASE | re.ASCII)
_PREFIXES: Final = "kmgtp"
_AGE_PART: Final = re.compile(r"(\d{1,9})\s*([smhdw])\s*", re.IGNORECASE | re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Characters of a size: enough for any that a file can have, to the millionth of a byte.
_LONGEST: Final = 64
_MOST_BITS: Final = 128


def parse_size(text: str | int) -> int:
    """Bytes in `text`, such as `"10G"`, `"1.5GiB"`, `"500 MB"` or `4096`.

    A fraction of a byte is rounded up. Raises `UsageError` for anything else, for
    zero and for what no file can be.
    """
    words = _written(text)
    size = _bytes(words)
    if size == 0:
        raise UsageError(f"{words} is not a size; give at least 1 byte")
    return size


def _written(text: str | int) -> str:
    """`text`, or a number as text. One of thousands of digits is not even looked at."""
    if isinstance(text, int) and text.bit_length() > _MOST_BITS:
        raise UsageError("a number of so many digits is larger than any file can be (8 EiB)")
    words = str(text).strip()
    if len(words) > _LONGEST:
        raise UsageError(
            f"{words[:20]!r}… is not a size: it has {len(words)} characters; write bytes"
            " (1048576) or a number with K, M, G, T or P (10G)"
        )
    return words


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"{text!r} is not a size; write bytes (1048576) or a number with"
            " K, M, G, T or P (10G, 1.5T; KB to PB for powers of 1000)"
        )
    number, prefix, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    exponent = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
    size = int(-(-Fraction(number) * base**exponent // 1))
    if size > MAX_SIZE:
        raise UsageError(f"{text} is larger than any file can be (8 EiB)")
    return size


def parse_rate(text: str | int) -> int | None:
    """Bytes a second in `text`, such as `"10M"`, `"10 MB/s"`, `"500K"` or `"5000B"`; None for 0,
    which is no limit. A number without a unit is refused: it means bytes a second to some
    programs, and KiB a second to others (rsync). Raises `UsageError`."""
    words = re.sub(r"\s*/\s*s(ec)?$", "", _written(text), flags=re.IGNORECASE)
    if re.search(r"bits?$|bps$", words, re.IGNORECASE):
        raise UsageError(f"{text!r}: a rate is in bytes a second here; write an eighth of it (10M)")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", words) and words.strip("0."):
        raise UsageError(
            f"{words} has no unit: write {words}B for {words} bytes a second, {words}K for"
            f" {words} KiB a second (which is what rsync makes of {words})"
        )
    try:
        return _bytes(words) or None
    except UsageError:
        raise UsageError(
            f"{text!r} is not a rate; write a number with B, K, M or G (500K, 10M, 10M/s), or 0 for"
            " no limit"
        ) from None


def parse_age(text: str) -> int:
    """Seconds in `text`, such as `"26h"`, `"8d"`, `"1d 12h"` or `"90m"`. A number without a unit is
    refused: hours to one and days to another. Raises `UsageError`."""
    words = text.strip()
    parts = _AGE_PART.findall(words)
    seconds = sum(int(number) * _SECONDS[unit.lower()] for number, unit in parts)
    if not seconds or _AGE_PART.sub("", words):
        raise UsageError(
            f"{text[:_LONGEST]!r} is no age; write a number with s, m (minutes), h, d or w: 26h,"
            " 8d, 1d12h"
        )
    return seconds


def parse_target_size(text: str | int, present: int) -> int:
    """Bytes for `grow` and `shrink`: a size, or `+SIZE` / `-SIZE` from `present` bytes."""
    words = _written(text)
    if words[:1] not in ("+", "-"):
        return parse_size(words)
    change = _bytes(words[1:])
    size = present + change if words[0] == "+" else present - change
    if size <= 0:
        raise UsageError(f"{words} would leave nothing of {present} bytes ({format_size(present)})")
    if size > MAX_SIZE:
        raise UsageError(f"{words} gives more than any file can be (8 EiB)")
    return size


def check_size(text: str, *others: str) -> None:
    """Raises `UsageError` unless `text` is a size, absolute or relative (`+SIZE`, `-SIZE`):
    what can be told before it is known what it is relative to. `others`: what could be written
    as well, for the message."""
    try:
        words = _written(text)
        _bytes(words[1:]) if words[:1] in ("+", "-") else parse_size(words)
    except UsageError as error:
        told = f"{error.message}, or {' or '.join(others)}" if others else error.message
        raise UsageError(told) from None


def format_size(size: int) -> str:
    """`size` bytes for a person: three significant digits, powers of 1024 (`"1.5 GiB"`)."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for prefix in "KMGTPE":
        value /= 1024
        if value < 999.5 or prefix == "E":
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {prefix}iB"


def format_apart(size: int, other: int) -> tuple[str, str]:
    """Two sizes for a person who is told which is larger: in bytes where three digits are the
    same."""
    texts = format_size(size), format_size(other)
    return texts if texts[0] != texts[1] else (f"{size} bytes", f"{other} bytes")
