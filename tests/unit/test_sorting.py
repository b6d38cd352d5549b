"""A listing comes in the order that was asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from virtstore.cli.sorting import SortKey, in_order
from virtstore.model import Entry, ImageInfo


def _image(name: str, size: int | None, allocated: int, day: int) -> ImageInfo:
    at = datetime(2026, 11, day, tzinfo=UTC)
    return ImageInfo(name, "local", "file", size, allocated, modified=at)


FOUND: list[Entry | ImageInfo] = [
    _image("a", 1, 9, 5),
    Entry("b", "local", "directory"),
    _image("c", 3, 1, 5),
    _image("d", None, 5, 9),
]


@pytest.mark.parametrize(
    ("key", "names", "reversed_names"),
    [
        ("name", "abcd", "dcba"),
        ("size", "cabd", "acbd"),
        ("allocated", "adcb", "cdab"),
        ("modified", "dacb", "acdb"),
    ],
)
def test_the_largest_and_the_newest_come_first_and_what_is_unknown_last(
    key: SortKey, names: str, reversed_names: str
) -> None:
    assert "".join(each.path for each in in_order(FOUND, key)) == names
    assert "".join(each.path for each in in_order(FOUND, key, reverse=True)) == reversed_names
