"""A volume is raw, whatever is in it; what is in a container's file is not put on one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import virtstore

from .shell import MIB

#: A qcow2 of which nothing but its contents says so.
FILE = Path("/mnt/images/web.img")


@pytest.fixture
def volume(here: virtstore.Host) -> virtstore.Image:
    """One of 8 MiB with a qcow2 in it, as other managers of virtual machines have them."""
    image = here.create("/dev/vg0/web", 8 * MIB)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(FILE), "32M"], check=True)
    with Path(image.path).open("r+b") as device:
        device.write(FILE.read_bytes())
    return image


def test_a_volume_with_a_container_in_it_is_shown_and_not_cut(
    here: virtstore.Host, volume: virtstore.Image
) -> None:
    info = volume.info()
    assert (info.container, info.size) == (None, 8 * MIB)
    assert "looks like a qcow2 container" in info.warnings[0]
    with pytest.raises(virtstore.Unsafe, match="looks like a qcow2 container"):
        volume.shrink("4M")
    assert volume.info().size == 8 * MIB
    assert volume.grow("12M").size == 12 * MIB


def test_a_containers_file_is_not_copied_to_a_volume(
    here: virtstore.Host, volume: virtstore.Image
) -> None:
    before = Path(volume.path).read_bytes()
    for target in (here.image("/dev/vg0/new"), here.image("/dev/vg0")):
        with pytest.raises(virtstore.Unsupported, match="a volume is raw"):
            here.image(str(FILE)).copy(target)
    with pytest.raises(virtstore.Unsupported, match="what it would overwrite is a disk"):
        here.image(str(FILE)).copy_contents(volume)
    assert Path(volume.path).read_bytes() == before
    assert [each.path for each in here.list("/dev/vg0")] == [volume.path]


def test_a_volumes_archive_comes_back_to_a_volume_whatever_is_in_it(
    here: virtstore.Host, volume: virtstore.Image
) -> None:
    copy = volume.copy(here.image("/dev/vg0/copy"))
    before = Path(volume.path).read_bytes()
    assert Path(copy.path).read_bytes() == before
    backup = volume.copy(here.image("/mnt/images"), archive=True)
    assert backup.path == "/mnt/images/web.zst"
    backup.copy_contents(copy)
    assert Path(copy.path).read_bytes() == before
    other = volume.copy(here.image("/mnt/images/other.gz"), archive=True)
    with pytest.raises(virtstore.Unsupported, match="--raw"):
        other.copy_contents(copy)
    other.copy_contents(copy, raw=True)
    assert Path(copy.path).read_bytes() == before
