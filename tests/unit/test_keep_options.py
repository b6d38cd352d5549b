"""The flags that say which backups stay."""

from __future__ import annotations

import pytest
from cyclopts import App

from virtstore.backups.retention import Keep
from virtstore.cli.keep_options import NO_RULES, KeepOptions
from virtstore.errors import UsageError


def read(line: str) -> Keep | None:
    app = App(result_action="return_value")

    @app.default
    def prune(*, keep: KeepOptions = NO_RULES) -> KeepOptions:
        return keep

    found = app(line, exit_on_error=False, print_error=False)
    assert isinstance(found, KeepOptions)
    return found.rules()


def test_each_flag_is_a_rule() -> None:
    flags = "--keep-last 1 --keep-hourly 2 --keep-daily=3 --keep-weekly 4 --keep-monthly 5"
    assert read(f"{flags} --keep-yearly 6 --keep-within 30d") == Keep(
        last=1, hourly=2, daily=3, weekly=4, monthly=5, yearly=6, within="30d"
    )


def test_without_flags_there_are_no_rules() -> None:
    assert read("") is None


@pytest.mark.parametrize(
    "line", ["--keep-daily 0", "--keep-daily -1 --keep-last 2", "--keep-within 30"]
)
def test_rules_that_keep_nothing_are_refused(line: str) -> None:
    with pytest.raises(UsageError):
        read(line)
