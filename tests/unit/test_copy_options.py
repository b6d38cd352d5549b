"""The options of a copy: keywords, flags and what goes to the agents are the same ones."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from virtstore.copy_options import (
    ContentsKeywords,
    CopyKeywords,
    CopyMode,
    CopyOptions,
    TargetKeywords,
)
from virtstore.model import Compression


def test_what_may_be_asked_is_what_agents_are_told() -> None:
    assert get_type_hints(CopyKeywords) == get_type_hints(CopyOptions)
    both = get_type_hints(ContentsKeywords) | get_type_hints(TargetKeywords)
    assert both == get_type_hints(CopyKeywords)


@pytest.mark.parametrize(
    ("options", "path", "compression"),
    [
        (CopyOptions(), "/x.img.zst", None),
        (CopyOptions(archive=True), "/x.img.lzo", "lzop"),
        (CopyOptions(archive=True), "/directory", "zstd"),
        (CopyOptions(archive=True, format="gzip"), "/x.img.xz", "gzip"),
    ],
)
def test_an_archive_has_the_format_that_was_asked_for_or_that_its_name_says(
    options: CopyOptions, path: str, compression: Compression | None
) -> None:
    assert options.for_target(path).compression == compression


@pytest.mark.parametrize(
    ("options", "contents", "mode"),
    [
        (CopyOptions(), False, "new"),
        (CopyOptions(overwrite=True), False, "overwrite"),
        (CopyOptions(), True, "contents"),
    ],
)
def test_what_becomes_of_the_target(options: CopyOptions, contents: bool, mode: CopyMode) -> None:
    assert options.mode(contents=contents) == mode


def test_a_rate_of_nothing_is_no_limit() -> None:
    assert CopyOptions(bwlimit="10M").bytes_per_second == 10 << 20
    assert CopyOptions(bwlimit=0).bytes_per_second is None
    assert CopyOptions().bytes_per_second is None
