"""Sets in braces, as bash has them: `a:/dev/vg0/{web,db}` is two locations. Where no shell has made
two words of it, as in quotes, in a crontab or in a job's file, it is done here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from virtstore.errors import UsageError

_SET: Final = re.compile(r"\{([^{}]*,[^{}]*)\}")
#: Words that one may become. Two dozen small sets would be more than a machine has room for.
_MOST: Final = 10_000


def expanded(text: str) -> list[str]:
    """The words that a word with sets in it stands for; itself where there is none. Raises
    `UsageError` for absurdly many."""
    found = [*islice(_words(text), _MOST + 1)]
    if len(found) > _MOST:
        raise UsageError(f"{text}: that would be more than {_MOST} locations")
    return found


def _words(text: str) -> Iterator[str]:
    found = _SET.search(text)
    if not found:
        yield text
        return
    for word in found[1].split(","):
        yield from _words(text[: found.start()] + word + text[found.end() :])
