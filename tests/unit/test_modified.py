"""When an image was written to is told as far as a calendar goes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from virtstore.agent.operations.describing import _modified
from virtstore.backends.base import Stored


@pytest.mark.parametrize(
    ("nanoseconds", "told"),
    [
        (None, None),
        (999_999_999, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_799 * 10**9, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_800 * 10**9, None),
        (-(10**30), None),
        ((1 << 63) * 10**9, None),
    ],
)
def test_a_time_that_no_calendar_has_is_not_known(
    nanoseconds: int | None, told: datetime | None
) -> None:
    assert _modified(Stored("x.img", "file", modified=nanoseconds)) == told
