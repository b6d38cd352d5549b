"""Thin volumes: their snapshots stand on their own, and their pool can run full."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore

from .shell import MIB, fill, lvs, sh


@pytest.fixture
def image(here: virtstore.Host) -> virtstore.Image:
    """In a pool that writers do not wait a minute for when it is full."""
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    sh("lvchange -qq -y --errorwhenfull y vg0/pool")
    made = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    fill(made.path, 8 * MIB, b"\x11")
    return made


def images() -> set[str]:
    return lvs("-S lv_role=public")


def test_an_origin_goes_and_its_thin_snapshot_stays_what_it_was(image: virtstore.Image) -> None:
    taken = image.snapshot("s1")
    assert image.info().snapshots == (taken.path,)
    assert image.delete().changed
    assert images() == {"s1"}
    assert Path(taken.path).read_bytes() == b"\x11" * (8 * MIB)
    assert taken.info().snapshot_of is None


def test_its_thin_snapshots_go_with_it_if_that_was_asked_for(image: virtstore.Image) -> None:
    image.snapshot("s1")
    image.snapshot("s2")
    image.host.create("/dev/vg0/other", 4 * MIB)
    image.delete(with_snapshots=True)
    assert images() == {"other"}


def test_an_origin_is_overwritten_and_its_thin_snapshot_stays_what_it_was(
    image: virtstore.Image,
) -> None:
    taken = image.snapshot("s1")
    new = image.host.create("/dev/vg0/new", 8 * MIB)
    new.copy(image, overwrite=True)
    assert Path(taken.path).read_bytes() == b"\x11" * (8 * MIB)
    assert Path(image.path).read_bytes() == bytes(8 * MIB)


def test_what_depends_on_an_origin_keeps_it(image: virtstore.Image) -> None:
    image.host.create("/dev/vg0/new", 8 * MIB)
    sh("lvcreate -qq -y -s -L 8M -n thick vg0/web")  # its exception store is no thin volume
    sh("lvcreate -qq -y -an -L 8M -n golden vg0 && lvchange -qq -pr vg0/golden")
    sh("lvcreate -qq -y -s --thinpool pool -n outside vg0/golden")  # reads what it has not
    for name, dependent in (("web", "thick"), ("golden", "outside")):
        origin = image.host.image(f"/dev/vg0/{name}")
        with pytest.raises(virtstore.InUse, match=dependent):
            origin.delete()
        with pytest.raises(virtstore.InUse, match=dependent):
            image.host.image("/dev/vg0/new").copy(origin, overwrite=True)
    assert images() == {"web", "thick", "golden", "outside", "new"}


@pytest.mark.parametrize("size", [48, pytest.param(160, marks=pytest.mark.torture)])
def test_a_copy_for_which_the_pool_has_no_room_is_no_image(
    image: virtstore.Image, size: int
) -> None:
    """Also one that the kernel has long begun to write out when its end is read."""
    sh(f"head -c {size}M /dev/urandom >/mnt/images/big")
    target = image.host.create("/dev/vg0/target", size * MIB, thin="pool")
    source = image.host.image("/mnt/images/big")
    with pytest.raises(virtstore.NoSpace, match="pool is full"):
        source.copy(target, overwrite=True)
    assert images() == {"web", "target"}
    assert not Path(target.path).read_bytes().strip(b"\0")
    with pytest.raises(virtstore.NoSpace, match="pool is full"):
        source.copy_contents(target)
    assert {(e.path, e.state) for e in image.host.list("/dev/vg0")} == {
        (image.path, "complete"),
        (target.path, "partial"),
    }
    image.host.clean("/dev/vg0")
    assert images() == {"web"}
    assert Path(image.path).read_bytes() == b"\x11" * (8 * MIB)
    assert float(sh("lvs --noheadings -o data_percent vg0/pool")) == 25


def test_a_pool_that_is_not_there_is_not_found_and_the_others_are_named(
    image: virtstore.Image,
) -> None:
    for pool in ("nopool", "vg0/nopool", "web"):
        with pytest.raises(virtstore.NotFound, match=f"no thin pool '{pool}'.*there is pool"):
            image.host.create("/dev/vg0/new", 8 * MIB, thin=pool)
    assert images() == {"web"}
    image.host.create("/dev/vg0/new", 8 * MIB, thin="vg0/pool")
