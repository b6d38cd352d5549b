"""Which changes of a file's times and size show that somebody wrote to it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from tests.contract.memory import Contents, MemoryImage

from virtstore.backends.base import Version
from virtstore.backends.files.file import FileImage
from virtstore.backends.version import settled, touched, written

BEFORE = Version((1, 2), 4096, 10**18, 10**18 + 1)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"identity": (1, 3)}, "another file has its name"),
        ({"size": 8192}, "its size changed from 4096 to 8192 bytes"),
        (
            {"modified": 10**18 + 7},
            "its time of modification changed from 2001-09-09T01:46:40.000000000Z to"
            " 2001-09-09T01:46:40.000000007Z",
        ),
        ({"changed": 10**18 + 9}, None),
        ({}, None),
    ],
)
def test_only_size_and_time_of_modification_tell_of_contents(
    changed: dict[str, object], told: str | None
) -> None:
    now = msgspec.structs.replace(BEFORE, **changed)
    assert written(BEFORE, now) == told
    assert touched(BEFORE, now) == ("changed" in changed)


def test_a_version_is_taken_in_a_later_tick_than_the_last_change(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(b"new")
    with (tmp_path / "x.img").open("rb", buffering=0) as file:
        version = settled(FileImage(file.fileno()))
    coarse = time.clock_gettime_ns(time.CLOCK_REALTIME)
    assert coarse - version.changed >= 10**7


def test_a_store_that_cannot_tell_is_not_waited_for() -> None:
    assert settled(MemoryImage(Contents(bytes(5)))).changed == 0
