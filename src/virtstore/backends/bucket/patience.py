"""How long a request is tried again: the one policy for all that is asked of S3.

What the network or a busy server failed with is tried again, after waits that double and are no two
alike, so that many writers do not come back at the same moment. What was refused is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

#: What a server answers that has no time, or is not well: tried again.
BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
#: The same by the names of S3's errors, whatever the status says.
BUSY_CODES: Final = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "ConditionalRequestConflict",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
    }
)


class Patience(NamedTuple):
    """Seconds. `first` and `longest`: of the waits; `known`: from the first failure on, of a server
    that has answered before; `unknown`: of one that has not, whose name may be mistaken."""

    first: float = 0.2
    longest: float = 5.0
    known: float = 60.0
    unknown: float = 4.0

    def waits(self) -> Iterator[float]:
        """How long to wait before each further try."""
        wait = self.first
        while True:
            yield wait * random.uniform(0.5, 1.0)
            wait = min(2 * wait, self.longest)

    def asked_for(self, retry_after: str | None) -> float:
        """The least wait that a server asked for (`Retry-After` in seconds), as far as that is
        heeded."""
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        return min(seconds, self.known / 2)
