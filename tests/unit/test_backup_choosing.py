"""Which backup is restored of the time that somebody names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.backups.choosing import chosen_of, last_second_of
from virtstore.backups.names import stamp
from virtstore.backups.series import Backup
from virtstore.errors import UsageError


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's time zone is two hours ahead of UTC in summer, one in winter."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("2026-11-28", "2026-11-28T225959Z"),
        ("2026-11-28Z", "2026-11-28T235959Z"),
        ("2026-07-28", "2026-07-28T215959Z"),
        ("2026-10-25", "2026-10-25T225959Z"),
        ("2026-11-28T02:00", "2026-11-28T010059Z"),
        ("2026-11-28 02:00", "2026-11-28T010059Z"),
        ("2026-11-28T02:00:07", "2026-11-28T010007Z"),
        ("2026-11-28T02:00Z", "2026-11-28T020059Z"),
        ("2026-11-28T02:00+03:00", "2026-11-27T230059Z"),
        ("2026-11-28T02:00:00-0130", "2026-11-28T033000Z"),
        ("2026-11-28T020000Z", "2026-11-28T020000Z"),
    ],
)
def test_a_time_is_meant_to_the_end_of_what_it_names_and_here_unless_it_says_where(
    berlin: None, text: str, last: str
) -> None:
    assert stamp(last_second_of(text)) == last


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "28.11.2026", "2026-11", "2026-02-30", "2026-11-28T25:00", "9999-12-31",
     "2026-11-28T02:00 Mars", "٢٠٢٦-11-28", "2026-11-28\n"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match="write 2026-11-28"):
        last_second_of(text)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)))
def test_the_time_in_a_backups_name_names_that_backup(made: datetime) -> None:
    assert last_second_of(stamp(made)) == made.replace(microsecond=0)


NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def made(hours_ago: float, *, whole: bool = True) -> Backup:
    moment = NOW - timedelta(hours=hours_ago)
    return Backup(f"/{hours_ago}", moment, 1, 1, whole)


def test_the_newest_whole_one_is_chosen_and_none_of_the_future_while_there_is_another() -> None:
    found = [made(24), made(1, whole=False), made(3), made(-24), made(48)]
    assert chosen_of(found, NOW, None) == made(3)
    assert chosen_of([made(-24), made(-48)], NOW, None) == made(-48)
    assert chosen_of([made(1, whole=False)], NOW, None) is None


def test_the_newest_is_chosen_that_is_not_after_a_time() -> None:
    found = [made(24), made(3), made(48)]
    assert chosen_of(found, NOW, NOW - timedelta(hours=3)) == made(3)
    assert chosen_of(found, NOW, NOW - timedelta(hours=3, seconds=1)) == made(24)
    assert chosen_of(found, NOW, NOW - timedelta(hours=49)) is None
