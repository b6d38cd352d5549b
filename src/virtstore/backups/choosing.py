"""Which backup of an image is restored: the newest that is whole, or the newest of a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from virtstore.backups.series import Backup, is_in_future
from virtstore.errors import UsageError

_MOMENT: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([T ](?P<hour>[0-9]{2}):?(?P<minute>[0-9]{2})(:?(?P<second>[0-9]{2}))?)?"
    r" ?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def last_second_of(text: str) -> datetime:
    """The last second of what a time of ISO 8601 names: a day, a minute or a second. It is of this
    machine's time zone unless it says which. Raises `UsageError`."""
    found = _MOMENT.fullmatch(text)
    try:
        if found is None:
            raise ValueError("it is written in another way")
        length = timedelta(days=1) if found["hour"] is None else timedelta(minutes=1)
        length = timedelta(seconds=1) if found["second"] else length
        clock = f"{found['hour'] or '00'}:{found['minute'] or '00'}:{found['second'] or '00'}"
        local = datetime.fromisoformat(f"{found['date']}T{clock}{found['zone'] or ''}")
        # A day ends when the next one begins there, also where clocks are changed in between.
        return (local + length).astimezone(UTC) - timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time: {error}; write 2026-11-28, 2026-11-28T02:00 or, in another"
            " time zone than this machine's, 2026-11-28T02:00Z or 2026-11-28T02:00+01:00"
        ) from None


def chosen_of(backups: Sequence[Backup], now: datetime, until: datetime | None) -> Backup | None:
    """The newest backup that is whole, and was made `until` then. One that is dated in the future
    counts only where there is no other."""
    whole = [each for each in backups if each.whole and (until is None or each.made <= until)]
    past = [each for each in whole if not is_in_future(each.made, now)]
    return max(past or whole, key=lambda each: each.made, default=None)
