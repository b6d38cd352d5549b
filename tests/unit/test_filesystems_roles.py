"""Which partition is meant where nobody names one."""

from __future__ import annotations

import pytest

from virtstore.filesystems.partitions.roles import behind, described, meant
from virtstore.model import Filesystem, Partition

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
RECOVERY = "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


def disk(*parts: tuple[str, str | None]) -> tuple[Partition, ...]:
    """Partitions of 1 MiB one behind the other, from 1 MiB on."""
    return tuple(
        Partition(n, n << 20, 1 << 20, kind, filesystem=Filesystem(holds) if holds else None)
        for n, (kind, holds) in enumerate(parts, 1)
    )


@pytest.mark.parametrize(
    ("parts", "number"),
    [
        ([("83", "ext4"), ("83", "ext4")], 2),
        ([("83", "ext4"), ("82", "swap")], 1),
        ([("83", "ext4"), ("83", "swap")], 1),  # of no type that would tell
        ([("83", "ext4"), ("83", "swsuspend")], 1),
        ([("7", "ntfs"), ("27", "ntfs")], 1),
        ([(LINUX, "xfs"), (RECOVERY, "ext4"), (LINUX, None)], 1),
        ([(LINUX, "btrfs"), (ESP, "vfat")], 1),
        ([(LINUX, "ext4"), (LINUX, "vfat")], 1),
        ([(LINUX, "ext4"), (LINUX, "ufs")], 1),
        ([(LINUX, "ext4"), (LINUX, "crypto_LUKS")], 2),
        ([(LINUX, "LVM2_member"), ("82", "swap")], 1),
        ([(LINUX, "ufs"), ("82", "swap")], 1),
        ([("82", "swap")], 1),
        ([(ESP, "vfat"), ("82", "swap")], 2),
        ([(RECOVERY, "ntfs"), (ESP, "vfat")], 1),
        ([("83", None), ("83", None)], 2),
        ([("83", "ext4"), ("5", None)], 1),
    ],
)
def test_the_last_that_is_worth_it_is_meant(
    parts: list[tuple[str, str | None]], number: int
) -> None:
    assert meant(disk(*parts)).number == number


def test_what_lies_behind_is_named_with_what_it_is_for() -> None:
    found = disk(("83", "ext4"), ("5", None), ("82", None), (RECOVERY, "ntfs"))
    assert [described(each) for each in behind(found[0], found)] == [
        "partition 3 (swap, 1 MiB)",
        "partition 4 (Windows recovery, ntfs, 1 MiB)",
    ]
    found = disk(("83", "ext4"), ("5", None))
    assert behind(found[0], found) == found[1:]  # an extended one that holds nothing yet
