"""A disk of a volume group fails: what is said of the group and its volumes, and what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import virtstore
from virtstore.model import ImageInfo

from .shell import sh

_CONFIGURATION: Final = """
[[volume_group]]
name = "vg1"
access = "write"

[[directory]]
path = "/mnt/images"
access = "write"
volatile = true
"""


@pytest.fixture
def broken() -> Iterator[None]:
    """vg1 on two disks, of which one fails: `whole` lies on the other, `half` on both, `lost` and
    `inactive` on the one, `raid` has a leg on each."""
    sh("mkdir -p /etc/virtstore /mnt/images")
    Path("/etc/virtstore/config.toml").write_text(_CONFIGURATION)
    Path("/etc/lvm/lvmlocal.conf").write_text('devices { global_filter=["r|/dev/ubdb|"] }\n')
    sh(
        """
        dmsetup create failing --table '0 204800 linear /dev/ubdb 0'
        vgcreate -qq -s 4M vg1 /dev/mapper/failing /dev/ubda
        lvcreate -qq -y -L 20M -n whole vg1 /dev/ubda
        lvcreate -qq -y -L 20M -n half vg1 /dev/ubda
        lvextend -qq -L 40M vg1/half /dev/mapper/failing
        lvcreate -qq -y -L 20M -n lost vg1 /dev/mapper/failing
        lvcreate -qq -y -an -Zn -Wn -L 8M -n inactive vg1 /dev/mapper/failing
        lvcreate -qq -y --type raid1 -m 1 -L 8M -n raid vg1
        dmsetup suspend failing
        dmsetup reload failing --table '0 204800 error'
        dmsetup resume failing
        """
    )
    yield
    sh("dmsetup reload failing --table '0 204800 linear /dev/ubdb 0'; dmsetup resume failing")
    sh("vgremove -qq -y vg1; dmsetup remove failing; rm -f /mnt/images/*")


def test_what_lies_on_a_missing_disk_is_named_and_the_rest_works(broken: None) -> None:
    disk = "/dev/mapper/failing"
    with virtstore.connect("local:") as here:
        entries = {
            entry.path.removeprefix("/dev/vg1/"): entry
            for entry in here.list("/dev/vg1", long=True)
        }
        lacking = set()
        for name, entry in entries.items():
            assert isinstance(entry, ImageInfo)
            if any(disk in warning for warning in entry.warnings):
                lacking.add(name)
        assert lacking == {"half", "lost", "inactive", "raid"}
        assert any(disk in w for w in here.image("/dev/vg1/lost").info().warnings)
        assert any("/dev/vg1" in w and disk in w for w in here.storage_info().warnings)
        wrong = [each for each in here.doctor() if each.is_wrong]
        assert [(each.severity, disk in each.what) for each in wrong] == [("problem", True)]

        here.image("/dev/vg1/whole").copy(here.image("/mnt/images/whole.img"))
        here.image("/dev/vg1/raid").copy(here.image("/mnt/images/raid.img"))
        for name in ("half", "lost"):
            with pytest.raises(virtstore.Error):
                here.image(f"/dev/vg1/{name}").copy(here.image(f"/mnt/images/{name}.img"))
        assert sorted(Path("/mnt/images").glob("*.img")) == [
            Path("/mnt/images/raid.img"), Path("/mnt/images/whole.img"),
        ]  # fmt: skip
        for change in (
            lambda: here.create("/dev/vg1/new", "4M"),
            lambda: here.image("/dev/vg1/whole").grow("24M"),
            lambda: here.image("/dev/vg1/inactive").copy(here.image("/mnt/images/x.img")),
        ):
            with pytest.raises(virtstore.Error, match=r"physical volume .* is missing.*vgreduce"):
                change()
            assert "virtstore" not in sh("lvs --noheadings -o lv_name,lv_tags vg1")
