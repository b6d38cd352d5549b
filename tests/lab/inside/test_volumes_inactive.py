"""A volume that is not active is so again once nobody reads it any more."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore

from .shell import MIB, sh


def active() -> set[str]:
    return set(sh("lvs --noheadings -o lv_name -S lv_active=active vg0").split())


@pytest.fixture
def inactive(here: virtstore.Host) -> virtstore.Host:
    """`thick`, with a snapshot, `thin`, and a thin snapshot, which LVM activates only with -K."""
    here.create("/dev/vg0/thick", 8 * MIB)
    here.image("/dev/vg0/thick").snapshot("thick-s")
    sh("lvcreate -qq -y -L 20M -T vg0/pool")
    here.create("/dev/vg0/thin", 8 * MIB, thin="pool")
    here.image("/dev/vg0/thin").snapshot("thin-s")
    sh(
        "mke2fs -q /dev/vg0/thick && mke2fs -q /dev/vg0/thin"
        " && udevadm settle && vgchange -qq -an vg0"
    )
    assert active() == set()
    return here


def test_a_copy_leaves_its_source_inactive(inactive: virtstore.Host) -> None:
    for name in ("thick", "thick-s", "thin", "thin-s"):
        for snapshot in (False, True):
            if snapshot and name == "thick-s":
                continue  # LVM makes no snapshot of a thick snapshot
            target = inactive.image(f"/mnt/images/{name}-{snapshot}.img")
            inactive.image(f"/dev/vg0/{name}").copy(target, snapshot=snapshot)
            assert active() - {"pool"} == set(), (name, snapshot)


def test_other_verbs_leave_it_inactive_too(inactive: virtstore.Host) -> None:
    image = inactive.image("/dev/vg0/thick")
    inactive.image("/dev/vg0/thick-s").delete()
    image.diff(inactive.image("/dev/vg0/thin"))
    assert active() - {"pool"} == set()
    image.grow(16 * MIB)
    image.growfs()
    image.resize(12 * MIB)
    image.info()
    assert active() - {"pool"} == set()


def test_a_volume_that_is_active_or_opened_meanwhile_stays_so(inactive: virtstore.Host) -> None:
    """A domain that starts during a copy keeps its disk."""

    def open_it(event: virtstore.Progress) -> None:
        if not opened and Path("/dev/vg0/thick").exists():
            opened.append(open("/dev/vg0/thick", "rb"))  # noqa: SIM115

    opened: list[object] = []
    copy = inactive.image("/mnt/images/copy.img")
    inactive.image("/dev/vg0/thick").copy(copy, bwlimit="4M", progress=open_it)
    try:
        assert "thick" in active()
    finally:
        opened[0].close()  # type: ignore[attr-defined]
    inactive.image("/dev/vg0/thick").copy(inactive.image("/mnt/images/again.img"))
    assert "thick" in active()
