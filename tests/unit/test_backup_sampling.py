"""What is verified on which day: each archive once in each round."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.backups.sampling import is_due, parse_share
from virtstore.errors import UsageError


@given(st.text(), st.dates(date(1, 1, 1), date(9990, 1, 1)), st.integers(1, 60))
def test_each_archive_is_due_once_in_each_round(name: str, day: date, days: int) -> None:
    due = [is_due(name, day + timedelta(days=n), Fraction(1, days)) for n in range(2 * days)]
    assert (sum(due[:days]), sum(due[days:])) == (1, 1)


@given(st.text(), st.dates(date(1, 1, 1), date(9990, 1, 1)), st.fractions(Fraction(1, 30), 1))
def test_no_archive_waits_longer_than_a_round_whatever_the_share(
    name: str, day: date, share: Fraction
) -> None:
    days = -(-1 // share)
    assert any(is_due(name, day + timedelta(days=n), share) for n in range(int(days)))


def test_each_day_has_about_its_share() -> None:
    names = [f"vm{n}.2026-11-28T020000Z.img.zst" for n in range(4000)]
    for day in range(1, 21):
        due = sum(is_due(name, date(2026, 11, day), Fraction(5, 100)) for name in names)
        assert 120 < due < 280


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", Fraction(1, 20)), ("100 %", Fraction(1)), ("0.5%", Fraction(1, 200))],
)
def test_a_share_is_a_percentage(text: str, share: Fraction) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["0%", "5", "0.05", "101%", "-5%", "%", "", "1/20", "٥%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no part of all"):
        parse_share(text)
