"""By which way an image is copied as it is at one moment."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from virtstore.backups.moment import Way, depends_on_its_place, ways
from virtstore.model import DirectoryInfo, ImageInfo, InUse

_DOMAIN = (InUse("domain", "domain web is running"), InUse("process", "qemu (pid 1)"))
_PROCESS = (InUse("process", "qemu (pid 1)"),)
FILE = ImageInfo("/xfs/web.img", "a", "file", 1 << 30, 0)
VOLUME = ImageInfo("/dev/vg0/web", "a", "lvm", 1 << 30, 0)
QCOW2 = replace(FILE, path="/xfs/web.qcow2", container="qcow2")


def root(path: str, *, snapshots: bool) -> DirectoryInfo:
    return DirectoryInfo(path, "write", "xfs", 1, 1, snapshots)


XFS, EXT4 = root("/xfs", snapshots=True), root("/xfs", snapshots=False)


@pytest.mark.parametrize(
    ("info", "place", "expected"),
    [
        (FILE, XFS, ["unused"]),
        (QCOW2, EXT4, ["unused"]),
        (replace(FILE, in_use=_PROCESS), XFS, ["snapshot", "unused"]),
        (replace(FILE, in_use=_DOMAIN), XFS, ["snapshot", "live", "unused"]),
        (replace(FILE, in_use=_DOMAIN), EXT4, ["live", "unused"]),
        (replace(FILE, in_use=_PROCESS), EXT4, ["unused"]),
        (replace(QCOW2, in_use=_DOMAIN), XFS, ["live", "snapshot", "unused"]),
        (replace(FILE, in_use=_DOMAIN, compression="zstd"), XFS, ["unused"]),
        (replace(VOLUME, in_use=_DOMAIN), None, ["snapshot", "live", "unused"]),
        (replace(VOLUME, in_use=_DOMAIN, type="lvm-snapshot"), None, ["live", "unused"]),
        (replace(VOLUME, in_use=_DOMAIN, type="block"), None, ["live", "unused"]),
    ],
)
def test_an_image_is_copied_by_what_keeps_its_moment(
    info: ImageInfo, place: DirectoryInfo | None, expected: list[Way]
) -> None:
    roots = [place] if place and depends_on_its_place(info) else []
    assert [*ways(info, roots)] == expected


@pytest.mark.parametrize("kind", ["lvm", "lvm-thin"])
def test_a_volume_that_nobody_uses_has_a_snapshot_too_as_nothing_shows_that_it_was_written_to(
    kind: str,
) -> None:
    assert ways(replace(VOLUME, type=kind), []) == ("snapshot", "unused")


def test_a_domain_is_asked_before_its_place_where_that_was_wanted() -> None:
    assert ways(replace(VOLUME, in_use=_DOMAIN), [], live=True)[0] == "live"
    assert ways(replace(VOLUME, in_use=_PROCESS), [], live=True)[0] == "snapshot"


def test_without_snapshots_an_image_is_copied_only_as_it_is() -> None:
    assert ways(replace(VOLUME, in_use=_DOMAIN), [], snapshots=False, live=True) == ("unused",)


def test_the_directory_that_counts_is_the_innermost_that_has_the_image() -> None:
    used = replace(FILE, path="/xfs/ext4/web.img", in_use=_PROCESS)
    assert ways(used, [XFS, root("/xfs/ext4", snapshots=False)]) == ("unused",)
    assert ways(used, [XFS, root("/xfs/ext", snapshots=False)])[0] == "snapshot"
