"""What the backups of an image are called."""

from __future__ import annotations

import pytest

from virtstore.backups.names import backup_name
from virtstore.backups.sources import image_name, series_names

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
