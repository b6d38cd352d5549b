"""What a file system may grow to, and that it lies within its place."""

from __future__ import annotations

import pytest

from virtstore.errors import Corrupt, UsageError
from virtstore.filesystems.base import Device
from virtstore.filesystems.bounds import grow_target, require_whole

DEVICE = Device(7, 10_000)


@pytest.mark.parametrize(
    ("size", "target"), [(None, 9728), (10_000, 9728), (9000, 8704), (6000, 6000), (6100, 6000)]
)
def test_it_grows_to_whole_blocks_and_never_below_what_it_has(
    size: int | None, target: int
) -> None:
    assert grow_target(6000, DEVICE, size, 512) == target


def test_what_would_shrink_it_or_leave_its_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="shrinkfs"):
        grow_target(6000, DEVICE, 5999, 512)
    with pytest.raises(UsageError, match="grow the image first"):
        grow_target(6000, DEVICE, 10_001, 512)


def test_one_that_ends_behind_its_device_was_cut() -> None:
    require_whole(10_000, DEVICE)
    with pytest.raises(Corrupt, match="the image was cut"):
        require_whole(10_001, DEVICE)
