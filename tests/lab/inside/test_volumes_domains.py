"""Volumes of libvirt's domains: who has one is told, and one of a running domain grows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtstore
from tests import guest, libvirt_host
from tests.libvirt_host import LibvirtHost

from .shell import MIB, sh

WEB = Path("/dev/vg0/web")
pytestmark = pytest.mark.torture  # QEMU takes its time in the lab


@pytest.fixture(scope="module")
def libvirtd(vg0: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    if why := libvirt_host.missing():
        pytest.skip(why)
    with libvirt_host.running(tmp_path_factory.mktemp("libvirt")) as host:
        yield host


@pytest.fixture
def there(libvirtd: LibvirtHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[virtstore.Host]:
    """That host, by an agent there, with the guest's disk on a volume."""
    monkeypatch.setenv("VIRTSTORE_AGENT", libvirtd.agent())
    with virtstore.connect() as host:
        host.create(str(WEB), guest.NEEDED)
        WEB.write_bytes(guest.boot_sector())
        yield host
    libvirtd.clear()
    sh("lvremove -qq -y vg0")


def test_a_volume_that_a_domain_has_grows_under_it(
    libvirtd: LibvirtHost, there: virtstore.Host
) -> None:
    libvirtd.define("web", WEB)
    libvirtd.virsh("start", "web", "--paused")  # or it takes the lab's only processor
    image = there.image(str(WEB))
    assert image.info().domain == virtstore.Domain("web", "paused")
    with pytest.raises(virtstore.InUse, match=r"^/dev/vg0/web: domain web is paused \("):
        image.delete(force_defined=True)
    done = image.resize("+8M")
    assert "domain web sees" in done.warnings[-1]
    told = re.search(r"Capacity: +(\d+)", libvirtd.virsh("domblkinfo", "web", "vda"))
    assert told
    assert int(told[1]) == done.size == image.info().size
    assert not any(WEB.read_bytes()[-8 * MIB :])


def test_a_volume_that_a_domain_is_defined_on_is_known_though_it_is_not_active(
    libvirtd: LibvirtHost, there: virtstore.Host
) -> None:
    libvirtd.define("web", WEB)
    image = there.image(str(WEB))
    sh(f"lvchange -qq -an {WEB}")
    losing: list[Callable[[], object]] = [
        image.delete,
        lambda: image.rename("other"),
        lambda: image.shrink("-4M"),
    ]
    for lose in losing:
        with pytest.raises(virtstore.InUse, match="domain web, shut off, is defined on it"):
            lose()
    image.delete(force_defined=True)


def test_a_snapshot_that_a_domain_is_defined_on_does_not_go_with_its_volume(
    libvirtd: LibvirtHost, there: virtstore.Host
) -> None:
    image = there.image(str(WEB))
    taken = image.snapshot()
    libvirtd.define("web", taken.path)
    with pytest.raises(virtstore.InUse, match="web-s1: domain web, shut off, is defined on it"):
        image.delete(with_snapshots=True)
    assert there.image(taken.path).info().domain == virtstore.Domain("web", "shut off")
    image.delete(with_snapshots=True, force_defined=True)
