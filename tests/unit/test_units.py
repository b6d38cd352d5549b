"""Sizes and ages: what a user writes is the number of bytes or seconds that he gets, or is
refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.errors import UsageError
from virtstore.units import (
    MAX_SIZE,
    check_size,
    format_apart,
    format_size,
    parse_age,
    parse_rate,
    parse_size,
    parse_target_size,
)

SIZES = st.integers(min_value=1, max_value=MAX_SIZE)
PREFIXES = "KMGTP"


@given(SIZES)
def test_a_bare_number_is_bytes(size: int) -> None:
    assert parse_size(str(size)) == parse_size(size) == parse_size(f"{size}B") == size


@given(st.integers(1, 8000), st.integers(0, 4), st.booleans())
def test_prefixes_are_powers_of_1024_and_kb_to_pb_powers_of_1000(
    number: int, exponent: int, small: bool
) -> None:
    prefix = PREFIXES[exponent].lower() if small else PREFIXES[exponent]
    binary, decimal = number * 1024 ** (exponent + 1), number * 1000 ** (exponent + 1)
    assert parse_size(f"{number}{prefix}") == binary
    assert parse_size(f"{number} {prefix}iB") == binary
    assert parse_size(f"{number}{prefix}b") == decimal


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.5G", 3 << 29),
        ("0.1K", 103),  # 102.4 bytes: never less than was asked for
        ("  10M ", 10 << 20),
        ("1.0000000000000000001K", 1025),
        ("9223372036854775807", MAX_SIZE),
    ],
)
def test_fractions_are_exact_and_rounded_up_to_a_byte(text: str, size: int) -> None:
    assert parse_size(text) == size


REFUSED = [
    "", " ", "G", "10X", "10 GiBs", "-1", "+1", "1e9", "0x10", "1,5G", ".5G", "5.G", "10iB", "1 0",
    "inf", "nan", "\u0663G", "0", "0.0G", "8E", "8192P", "9223372036854775808", "10G\n5",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@given(present=SIZES, change=SIZES)
def test_relative_sizes_start_from_the_present_size(present: int, change: int) -> None:
    for text, wanted in ((f"+{change}", present + change), (f"-{change}", present - change)):
        check_size(text)
        if 0 < wanted <= MAX_SIZE:
            assert parse_target_size(text, present) == wanted
        else:
            with pytest.raises(UsageError):
                parse_target_size(text, present)


@given(present=SIZES, size=SIZES)
def test_a_size_without_a_sign_is_absolute(present: int, size: int) -> None:
    assert parse_target_size(str(size), present) == size


@pytest.mark.parametrize("text", ["+", "-", "+-1", "++1", "+ ", "1+"])
def test_a_sign_needs_a_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target_size(text, 1 << 30)
    with pytest.raises(UsageError):
        check_size(text)


@given(SIZES)
def test_what_a_person_reads_is_within_half_a_percent_and_can_be_written(size: int) -> None:
    text = format_size(size)
    if not text.endswith("EiB"):  # which is larger than any prefix that can be written
        assert abs(parse_size(text) - size) <= size * 0.005 + 1  # a part of a byte is a byte
    assert len(text) <= 8


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),  # not 1024 KiB
        (10 << 30, "10 GiB"),
        (MAX_SIZE, "8 EiB"),
    ],
)
def test_sizes_are_told_in_three_digits(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("size", "other", "texts"),
    [
        (1 << 30, 2 << 30, ("1 GiB", "2 GiB")),
        (1 << 20, (1 << 20) + 1, ("1048576 bytes", "1048577 bytes")),
    ],
)
def test_two_sizes_are_told_so_that_the_larger_one_is_seen(
    size: int, other: int, texts: tuple[str, str]
) -> None:
    assert format_apart(size, other) == texts


@pytest.mark.parametrize("text", ["+0", "-0", "+0G"])
def test_a_change_by_nothing_is_the_present_size(text: str) -> None:
    check_size(text)
    assert parse_target_size(text, 4096) == 4096


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10M", 10 << 20),
        ("10M/s", 10 << 20),
        ("10 MB/s", 10_000_000),
        ("1.5KiB/sec", 1536),
        ("5000B", 5000),
        ("0", None),
        ("0M/s", None),
        (0, None),
    ],
)
def test_a_rate_has_a_unit_or_is_none(text: str | int, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["5000", 5000, "5000/s", "1.5", "10Mbit/s", "10Mbps", "-1M", "", "x"]
)
def test_a_rate_that_other_programs_read_otherwise_is_refused(text: str | int) -> None:
    with pytest.raises(UsageError) as refused:
        parse_rate(text)
    if str(text).startswith("5000"):
        assert "5000B for 5000 bytes" in refused.value.message
        assert "5000K for 5000 KiB" in refused.value.message


@pytest.mark.parametrize("digits", [65, 1000, 5000, 100_000])
@pytest.mark.parametrize("form", ["{}", "{}G", "+{}", "-{}", "0.{}K", "{}.5", "0{}", " {} "])
def test_a_number_of_thousands_of_digits_is_refused_in_few_words(digits: int, form: str) -> None:
    text = form.format("9" * digits)
    for parse in (parse_size, check_size, parse_rate, lambda text: parse_target_size(text, 5)):
        with pytest.raises(UsageError) as caught:
            parse(text)
        assert len(caught.value.message) < 300


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 1 << 63, -1, 0], ids=range(5))
def test_a_whole_number_that_no_file_can_have_is_refused(number: int) -> None:
    for parse in (parse_size, parse_rate) if number else (parse_size,):
        with pytest.raises(UsageError):
            parse(number)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("26h", 93600), ("8d", 691200), ("90m", 5400), ("1d12h", 129600), (" 1W 1 s ", 604801)],
)
def test_an_age_is_of_seconds_to_weeks(text: str, seconds: int) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "26", "h", "0h", "-1h", "1.5d", "1y", "26h5", "1d x", "9" * 70]
)
def test_what_says_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no age; write a number with s, m"):
        parse_age(text)
