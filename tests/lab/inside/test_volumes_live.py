"""Volumes of running domains are copied as they are at one moment: by the domain's own backup job,
and by a snapshot that is made while the guest's file systems are frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore
from tests import guest
from tests.guest_agent import CHANNEL, guest_agent
from tests.libvirt_host import LibvirtHost
from tests.waiting import until

from .shell import sh
from .test_volumes_domains import WEB, libvirtd, there

__all__ = ["libvirtd", "there"]  # fixtures

IMAGES = Path("/mnt/images")
pytestmark = pytest.mark.torture  # QEMU takes its time in the lab


def until_it_wrote(count: int) -> None:
    until(lambda: max(guest.counts(WEB.read_bytes()), default=0) >= count, "the guest to write")


def test_a_volume_is_copied_live(libvirtd: LibvirtHost, there: virtstore.Host) -> None:
    libvirtd.start("web", WEB)
    until_it_wrote(3)
    there.image(str(WEB)).copy(there.image(f"{IMAGES}/web.img"), live=True)
    copied = (IMAGES / "web.img").read_bytes()
    assert guest.is_of_one_moment(copied)
    assert len(guest.counts(copied)) >= 3
    until_it_wrote(max(guest.counts(copied)) + 1)
    assert [path.name for path in IMAGES.iterdir()] == ["web.img"]
    (IMAGES / "web.img").unlink()


def test_a_snapshot_of_a_volume_is_made_while_the_guest_is_frozen(
    libvirtd: LibvirtHost, there: virtstore.Host
) -> None:
    with guest_agent(libvirtd) as agent:
        libvirtd.start("web", WEB, devices=CHANNEL)
        until_it_wrote(3)
        source, target = there.image(str(WEB)), there.image(f"{IMAGES}/web.img")
        copied = source.copy(target, snapshot=True, quiesce=True)
        libvirtd.virsh("destroy", "web")
    assert agent.freezes == ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
    assert copied.warnings == ()
    assert guest.is_of_one_moment((IMAGES / "web.img").read_bytes())
    assert sh("lvs --noheadings -o lv_name vg0").split() == ["web"]
    (IMAGES / "web.img").unlink()
