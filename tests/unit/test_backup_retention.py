"""Which backups stay: never fewer than a user can be sure of."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from virtstore.backups.names import backup_name
from virtstore.backups.retention import Decision, Keep, decide
from virtstore.backups.series import CLOCKS_APART, Backup
from virtstore.errors import UsageError

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def backup(made: datetime, *, whole: bool = True) -> Backup:
    name = backup_name("web", made)
    return Backup(f"/mnt/backups/{name}", name.made, 1 << 30 if whole else None, 1 << 20, whole)


def at(text: str, *, whole: bool = True) -> Backup:
    return backup(datetime.fromisoformat(text).replace(tzinfo=UTC), whole=whole)


def kept(decisions: list[Decision]) -> dict[str, tuple[str, ...]]:
    """Of each backup that stays, by its date, why."""
    return {f"{d.backup.made:%Y-%m-%dT%H:%M}": d.reasons for d in decisions if d.reasons}


def keep_of(counts: dict[str, int], within: str | None = None) -> Keep:
    return msgspec.convert({**counts, "within": within}, Keep)


MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30)),
    st.datetimes(datetime(2023, 12, 25), datetime(2027, 1, 5)),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
).map(lambda made: made.replace(microsecond=0, tzinfo=UTC))
BACKUPS = st.lists(
    st.tuples(MOMENTS, st.sampled_from([True, True, True, False])),
    max_size=30,
    unique_by=lambda each: each[0],
).map(lambda found: [backup(made, whole=whole) for made, whole in found])
COUNTS = st.fixed_dictionaries({rule: st.integers(0, 12) for rule in RULES}).filter(
    lambda counts: any(counts.values())
)
WITHIN = st.one_of(st.none(), st.integers(1, 2000).map(lambda hours: f"{hours}h"))
KEEPS = st.one_of(
    st.builds(keep_of, COUNTS, WITHIN),
    WITHIN.filter(bool).map(lambda within: Keep(within=within)),
)
NIGHTS = [backup(NOW.replace(hour=2) - timedelta(days=days)) for days in range(900)]


@given(BACKUPS, KEEPS)
@example(NIGHTS, Keep(hourly=1))
def test_the_newest_whole_backup_always_stays(backups: list[Backup], keep: Keep) -> None:
    whole = [each for each in backups if each.whole and each.made <= NOW + CLOCKS_APART]
    stay = {d.backup for d in decide(backups, keep, NOW) if d.reasons}
    assert not whole or max(whole, key=lambda each: each.made) in stay


@given(BACKUPS, KEEPS)
def test_what_is_not_whole_or_dated_in_the_future_stays_and_counts_for_nothing(
    backups: list[Backup], keep: Keep
) -> None:
    others = [b for b in backups if not b.whole or b.made > NOW + CLOCKS_APART]
    decisions = decide(backups, keep, NOW)
    assert all(d.reasons in (("not-whole",), ("future",)) for d in decisions if d.backup in others)
    without = decide([b for b in backups if b not in others], keep, NOW)
    assert without == [d for d in decisions if d.backup not in others]


@given(BACKUPS, KEEPS)
@example(NIGHTS, Keep(daily=7, weekly=4, monthly=12, yearly=5))
@example(NIGHTS, Keep(daily=7, yearly=2, within="20d"))
def test_pruning_again_removes_nothing_more(backups: list[Backup], keep: Keep) -> None:
    stay = [d for d in decide(backups, keep, NOW) if d.reasons]
    assert decide([d.backup for d in stay], keep, NOW) == stay


@given(BACKUPS, COUNTS, st.sampled_from(RULES), st.integers(1, 12))
def test_a_rule_that_asks_for_more_never_keeps_less(
    backups: list[Backup], counts: dict[str, int], rule: str, more: int
) -> None:
    asked = {**counts, rule: counts[rule] + more}
    fewer = kept(decide(backups, keep_of(counts), NOW))
    assert fewer.keys() <= kept(decide(backups, keep_of(asked), NOW)).keys()


@given(BACKUPS, COUNTS, st.integers(1, 2000), st.integers(1, 2000))
def test_more_time_never_keeps_less(
    backups: list[Backup], counts: dict[str, int], hours: int, more: int
) -> None:
    fewer = kept(decide(backups, keep_of(counts, f"{hours}h"), NOW))
    asked = kept(decide(backups, keep_of(counts, f"{hours + more}h"), NOW))
    assert kept(decide(backups, keep_of(counts), NOW)).keys() <= fewer.keys() <= asked.keys()


@given(BACKUPS, KEEPS, st.randoms(use_true_random=False))
def test_the_order_in_which_backups_are_listed_does_not_matter(
    backups: list[Backup], keep: Keep, chance: random.Random
) -> None:
    shuffled = chance.sample(backups, len(backups))
    assert decide(shuffled, keep, NOW) == decide(backups, keep, NOW)


@given(BACKUPS, COUNTS)
def test_each_backup_is_decided_of_once_and_by_rules_that_were_given(
    backups: list[Backup], counts: dict[str, int]
) -> None:
    decisions = decide(backups, keep_of(counts), NOW)
    assert sorted(d.backup.path for d in decisions) == sorted(b.path for b in backups)
    assert [d.backup.made for d in decisions] == sorted((b.made for b in backups), reverse=True)
    always = {"oldest", "future", "not-whole"}
    given_ones = {rule for rule, count in counts.items() if count}
    for rule in RULES:
        assert sum(rule in d.reasons for d in decisions) <= counts[rule]
    assert {reason for d in decisions for reason in d.reasons} <= always | given_ones


@given(BACKUPS, BACKUPS)
def test_what_is_added_pushes_no_backup_out_of_the_time_that_is_kept_whole(
    backups: list[Backup], added: list[Backup]
) -> None:
    """With a key that may only add, somebody adds archives of any date."""
    forged = [backup(b.made + timedelta(seconds=1), whole=b.whole) for b in added]
    stay = {d.backup for d in decide([*backups, *forged], Keep(within="30d"), NOW) if d.reasons}
    since = NOW + CLOCKS_APART - timedelta(days=30)
    assert {b for b in backups if b.made >= since} <= stay


def test_each_rule_keeps_the_newest_of_its_periods_and_says_so() -> None:
    found = [
        at("2026-11-28T11:00"),
        at("2026-11-28T02:00"),
        at("2026-11-27T02:00"),
        at("2026-11-26T02:00"),
        at("2026-11-22T02:00"),
        at("2026-10-31T02:00"),
        at("2026-10-30T02:00"),
        at("2025-12-31T02:00"),
        at("2025-12-30T02:00"),
    ]
    assert kept(decide(found, Keep(last=1, daily=2, weekly=2, monthly=2, yearly=2), NOW)) == {
        "2026-11-28T11:00": ("last", "daily", "weekly", "monthly", "yearly"),
        "2026-11-27T02:00": ("daily",),
        "2026-11-22T02:00": ("weekly",),
        "2026-10-31T02:00": ("monthly",),
        "2025-12-31T02:00": ("yearly",),
    }


def test_weeks_are_those_of_iso_8601_also_where_years_meet() -> None:
    # 2024-12-30 is a Monday, of the first week of 2025, and 2023-01-01 a Sunday, of 2022's last.
    found = [at("2025-01-05T02:00"), at("2024-12-30T02:00"), at("2024-12-29T02:00")]
    assert list(kept(decide(found, Keep(weekly=2), NOW))) == [
        "2025-01-05T02:00",
        "2024-12-29T02:00",
    ]
    found = [at("2023-01-02T02:00"), at("2023-01-01T02:00"), at("2022-12-26T02:00")]
    assert list(kept(decide(found, Keep(weekly=2), NOW))) == [
        "2023-01-02T02:00",
        "2023-01-01T02:00",
    ]


def test_days_are_those_of_utc() -> None:
    late = datetime.fromisoformat("2026-11-28T00:30:00+02:00")  # the 27th, in UTC
    found = [at("2026-11-27T02:00"), backup(late), at("2026-11-26T02:00")]
    assert list(kept(decide(found, Keep(daily=2), NOW))) == ["2026-11-27T22:30", "2026-11-26T02:00"]


def test_the_oldest_stays_as_long_as_a_rule_has_found_too_few_periods() -> None:
    found = [at("2026-03-03T02:00"), at("2026-02-02T02:00"), at("2026-01-05T02:00")]
    assert kept(decide(found, Keep(yearly=2), NOW)) == {
        "2026-03-03T02:00": ("yearly",),
        "2026-01-05T02:00": ("oldest",),
    }
    later = [at("2027-01-01T02:00"), *found]
    assert list(kept(decide(later, Keep(yearly=2), NOW + timedelta(days=50)))) == [
        "2027-01-01T02:00",
        "2026-03-03T02:00",
    ]


def test_time_that_is_kept_whole_ends_with_the_newest_backup_and_not_today() -> None:
    found = [at("2026-03-03T02:00"), at("2026-03-02T02:00"), at("2026-03-01T01:59")]
    assert kept(decide(found, Keep(within="2d"), NOW)) == {
        "2026-03-03T02:00": ("within",),
        "2026-03-02T02:00": ("within",),
    }


def test_backups_of_a_clock_that_ran_ahead_push_no_real_one_out() -> None:
    real = [at("2026-11-28T02:00"), at("2026-11-27T02:00")]
    wrong = [at(f"203{year}-01-01T00:00") for year in range(10)]
    decisions = decide([*real, *wrong], Keep(last=2), NOW)
    assert {d.backup for d in decisions if d.reasons == ("last",)} == {*real}
    assert {d.backup for d in decisions if d.reasons == ("future",)} == {*wrong}


def test_a_backup_of_a_clock_that_is_a_little_ahead_counts_like_any_other() -> None:
    ahead = backup(NOW + timedelta(seconds=3))
    assert decide([ahead], Keep(last=1), NOW) == [Decision(ahead, ("last",))]


def test_an_interrupted_attempt_at_the_same_moment_does_not_stand_for_the_whole_one() -> None:
    whole, cut = at("2026-11-28T02:00"), at("2026-11-28T02:00", whole=False)
    assert decide([cut, whole], Keep(last=1), NOW) == [
        Decision(whole, ("last",)),
        Decision(cut, ("not-whole",)),
    ]


@pytest.mark.parametrize("counts", [{}, dict.fromkeys(RULES, 0), {"daily": 0}])
def test_rules_that_would_keep_nothing_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="no rule says what stays"):
        keep_of(counts)


def test_a_rule_keeps_no_negative_number() -> None:
    with pytest.raises(UsageError, match="keep daily -1"):
        Keep(daily=-1, last=3)
