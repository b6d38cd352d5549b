"""The flags that say which backups stay: `--keep-last`, `--keep-daily` and so on.

`prune` and `backup` take them alike, as one parameter:

    def prune(directory: str, /, *, keep: KeepOptions = NO_RULES, …) -> int:
        rules = keep.rules()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.backups.retention import Keep
from virtstore.cli.options import Number


def _of_each(period: str) -> Parameter:
    return Parameter(help=f"Keep the newest backup of each of the last N {period} that have one.")


@Parameter(name="*")
@dataclass(frozen=True)
class KeepOptions:
    """How many backups of each image stay, by rule."""

    keep_last: Annotated[Number, Parameter(help="Keep the last N backups of each image.")] = None
    keep_hourly: Annotated[Number, _of_each("hours")] = None
    keep_daily: Annotated[Number, _of_each("days (UTC)")] = None
    keep_weekly: Annotated[Number, _of_each("weeks (from Monday on)")] = None
    keep_monthly: Annotated[Number, _of_each("months")] = None
    keep_yearly: Annotated[Number, _of_each("years")] = None
    keep_within: Annotated[
        str | None,
        Parameter(help="Keep all that were made so long before the newest one (30d), or later."),
    ] = None

    def rules(self) -> Keep | None:
        """The rules; None where no flag was given. Raises `UsageError` where all are 0, or one is
        less."""
        given = {
            name.removeprefix("keep_"): value
            for name, value in vars(self).items()
            if value is not None
        }
        return Keep(**given) if given else None


NO_RULES: Final = KeepOptions()
