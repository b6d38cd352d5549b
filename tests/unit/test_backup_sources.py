"""Which images are backed up, and what their backups are called."""

from __future__ import annotations

from typing import Any

import pytest

from virtstore.backups.names import backup_name
from virtstore.backups.sources import chosen, image_name, series_names
from virtstore.model import Entry, ImageInfo, InUse

from .test_backup_names import AT_TWO


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/images/web.img", "web"),
        ("/images/web.qcow2", "web"),
        ("/images/WEB.QCOW2", "WEB"),
        ("/images/web.vmdk", "web"),
        ("/images/web.raw", "web"),
        ("/images/web.img.zst", "web"),
        ("/images/web.example.org.img", "web.example.org"),
        ("/images/web.img.img", "web.img"),
        ("/images/web.iso", "web.iso"),
        ("/images/web", "web"),
        ("/images/.img", ".img"),
        ("/dev/vg0/web", "web"),
        ("/dev/vg0/web.2026-11-28", "web.2026-11-28"),
    ],
)
def test_a_backup_has_its_images_name_without_the_suffix_of_its_format(
    path: str, name: str
) -> None:
    assert image_name(path) == name
    backup_name(name, AT_TWO)  # may be called so


def test_images_of_one_name_have_names_with_their_host_and_path() -> None:
    assert [*series_names("/dev/vg0/web", "a")] == ["web", "web@a", "dev-vg0-web@a"]
    assert [*series_names("/images/x/web.img", "b")] == ["web", "web@b", "images-x-web@b"]


def info(name: str, **more: Any) -> ImageInfo:
    return ImageInfo(f"/images/{name}", "a", more.pop("type", "file"), 1, 1, **more)


LISTED: list[Entry | ImageInfo] = [
    info("db.img"),
    info("web.img", in_use=(InUse("process", "qemu (pid 1)"),)),
    info("web.qcow2", container="qcow2", backing="/golden/x.img"),
    info("web-s1.img", snapshot_of="/images/web.img"),
    info("old", type="lvm-thin-snapshot"),
    info("cut.img", state="partial"),
    info("web.img.zst", compression="zstd"),
    Entry("/images/sub", "a", "directory"),
    Entry("/images/pipe", "a", "other"),
]


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        ([], [], ["db.img", "web.img", "web.qcow2"]),
        (["web*"], [], ["web.img", "web.qcow2"]),
        (["*.qcow2", "d?.img"], [], ["db.img", "web.qcow2"]),
        ([], ["web*"], ["db.img"]),
        (["web*"], ["*.[iq]*"], []),
        (["WEB*"], [], []),
        (["/images/*"], [], []),
    ],
)
def test_of_a_directory_images_are_backed_up_whose_names_fit(
    include: list[str], exclude: list[str], names: list[str]
) -> None:
    assert chosen(LISTED, include, exclude) == [f"/images/{name}" for name in names]
