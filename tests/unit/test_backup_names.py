"""What the file name of a backup says, and which files are no backups of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.backups.names import backup_name, parse
from virtstore.errors import UsageError

AT_TWO = datetime(2026, 11, 28, 2, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("web.2026-11-28T020000Z.img.zst", "web"),
        ("/mnt/b.2020-01-01T000000Z.img.zst/web.2026-11-28T020000Z.img.zst", "web"),
        ("web.example.org.2026-11-28T020000Z.img.zst", "web.example.org"),
        ("web@a.2026-11-28T020000Z.img.zst", "web@a"),
        ("web.img.2026-11-28T020000Z.img.zst", "web.img"),
        ("..2026-11-28T020000Z.img.zst", "."),
        (
            "web.2025-01-01T000000Z.img.zst.2026-11-28T020000Z.img.zst",
            "web.2025-01-01T000000Z.img.zst",
        ),
        ("web.2025-01-01T000000Z.2026-11-28T020000Z.img.zst", "web.2025-01-01T000000Z"),
    ],
)
def test_a_backup_is_of_the_image_that_stands_before_its_last_date(path: str, name: str) -> None:
    found = parse(path)
    assert found == (name, AT_TWO)
    assert path.endswith(str(found))


@pytest.mark.parametrize(
    "path",
    [
        "web.img.zst",
        "web.2026-11-28T020000Z.img",
        "web.2026-11-28T020000Z.zst",
        "web.2026-11-28T020000Z.img.zst.old",
        "WEB.2026-11-28T020000Z.IMG.ZST",
        "web.2026-11-28T020000z.img.zst",
        "web.2026-11-28T02:00:00Z.img.zst",
        "web.2026-11-28T020000+0100.img.zst",
        "web.2026-11-28.img.zst",
        "web-2026-11-28T020000Z.img.zst",
        "web.20261128T020000Z.img.zst",
        "web.2026-02-29T020000Z.img.zst",
        "web.2026-13-01T020000Z.img.zst",
        "web.2026-11-28T240000Z.img.zst",
        "web.2026-11-28T235960Z.img.zst",
        "web.0000-11-28T020000Z.img.zst",
        "web.٢٠٢٦-11-28T020000Z.img.zst",
        ".2026-11-28T020000Z.img.zst",
        "2026-11-28T020000Z.img.zst",
        "web.2026-11-28T020000Z.img.zst\n",
        "",
    ],
)
def test_what_is_called_otherwise_is_foreign(path: str) -> None:
    assert parse(path) is None


def test_the_name_of_a_backup_has_its_time_in_utc_and_without_a_fraction() -> None:
    summer = timezone(timedelta(hours=2))
    late = datetime(2026, 7, 1, 0, 30, 5, 999_999, tzinfo=summer)
    assert str(backup_name("web", late)) == "web.2026-06-30T223005Z.img.zst"


@given(
    st.text(st.characters(exclude_characters="/\0\r\n", exclude_categories=["Cs"]), min_size=1),
    st.datetimes(timezones=st.timezones(), min_value=datetime(1, 1, 3)),
)
def test_what_was_named_is_found_again(name: str, moment: datetime) -> None:
    made = backup_name(name, moment)
    assert parse(f"/mnt/backups/{made}") == made
    assert timedelta(0) <= moment - made.made < timedelta(seconds=1)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\0b", "../x"])
def test_a_name_that_is_no_part_of_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a backup"):
        backup_name(name, AT_TWO)
