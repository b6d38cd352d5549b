"""Images in a pool that libvirt's domains have for a disk over the network: they are told by name.
A real libvirtd, whose QEMU opens the image itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import virtstore
from tests.guest import FIRST, NEEDED, counts, make_disk
from tests.guest_agent import CHANNEL, guest_agent
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.waiting import until

from . import place
from .cluster import POOL, Cluster
from .place import MIB, VMS, Place

_SIZE: Final = NEEDED + FIRST
_SECRET: Final = """
<secret ephemeral="yes" private="yes">
  <uuid>{0}</uuid><usage type="ceph"><name>{0}</name></usage>
</secret>
"""
_DISK: Final = """
<disk type="network" device="disk"><driver name="qemu" type="raw"/>
  <auth username="vms"><secret type="ceph" uuid="{secret}"/></auth>
  <source protocol="rbd" name="{name}"><host name="{address}" port="{port}"/></source>
  <target dev="{target}" bus="virtio"/>
</disk>
"""


@pytest.fixture
def secret(libvirt: LibvirtHost, cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """The key of the user of `here`, as libvirt has it."""
    number, described = str(uuid.uuid4()), tmp_path / "secret.xml"
    described.write_text(_SECRET.format(number))
    libvirt.virsh("secret-define", described)
    key = cluster.ceph("auth", "print-key", "client.vms")
    libvirt.virsh("secret-set-value", number, "--base64", key)
    yield number
    libvirt.virsh("secret-undefine", number)


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    """The pool, and libvirt's directory, where QEMU can keep what a guest overwrites."""
    with place.on(cluster, tmp_path) as here:
        images = f'[[directory]]\npath = "{IMAGES}"\naccess = "write"\n'
        here.config.write_text(images + cluster.user().table())
        yield here


@pytest.fixture
def host(
    libvirt: LibvirtHost, here: Place, monkeypatch: pytest.MonkeyPatch
) -> Iterator[virtstore.Host]:
    monkeypatch.setenv("VIRTSTORE_AGENT", libvirt.agent("--config", here.config))
    with virtstore.connect() as host:
        yield host


def test_a_domain_is_told_of_its_disk_whether_it_runs_or_is_shut_off(
    libvirt: LibvirtHost, here: Place, host: virtstore.Host, secret: str
) -> None:
    _boots(here, "web")
    here.cluster.rbd("create", f"{POOL}/data", "--size", "4M")
    here.cluster.rbd("create", f"{POOL}/free", "--size", "4M")
    disk, image = _disk(here.cluster, secret, f"{POOL}/web"), host.image(f"{VMS}/web")
    libvirt.define("web", disk, _disk(here.cluster, secret, f"{POOL}/data", "vdb"))
    assert image.info().domain == virtstore.Domain("web", "shut off")
    assert image.info().in_use == ()
    with pytest.raises(virtstore.InUse, match="domain web, shut off, is defined on it"):
        image.delete()
    libvirt.virsh("start", "web")
    _wait_for_writes(here)
    with pytest.raises(virtstore.InUse, match="domain web is running"):
        image.copy(host.image(f"{IMAGES}/x.img"))
    domains = {
        e.path: e.domain for e in host.list(VMS, long=True) if not isinstance(e, virtstore.Entry)
    }
    web = virtstore.Domain("web", "running")
    assert domains == {f"{VMS}/data": web, f"{VMS}/free": None, f"{VMS}/web": web}


def test_a_disk_that_grows_does_so_for_the_guest_as_well(
    libvirt: LibvirtHost, here: Place, host: virtstore.Host, secret: str
) -> None:
    _boots(here, "web")
    libvirt.start("web", _disk(here.cluster, secret, f"{POOL}/web"))
    _wait_for_writes(here)
    host.image(f"{VMS}/web").grow(_SIZE + MIB)
    assert f"{_SIZE + MIB}" in libvirt.virsh("domblkinfo", "web", "vda")


def test_a_copy_of_a_running_domains_disk_is_quiesced_or_live(
    libvirt: LibvirtHost, here: Place, host: virtstore.Host, secret: str
) -> None:
    _boots(here, "web")
    image = host.image(f"{VMS}/web")
    with guest_agent(libvirt) as agent:
        libvirt.start("web", _disk(here.cluster, secret, f"{POOL}/web"), devices=CHANNEL)
        _wait_for_writes(here)
        image.copy(host.image(f"{IMAGES}/frozen.img"), snapshot=True, quiesce=True)
        assert agent.freezes == ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
        image.copy(host.image(f"{IMAGES}/live.img"), live=True)
    earlier, later = (libvirt.written(f"{name}.img") for name in ("frozen", "live"))
    assert later[: len(earlier)] == earlier != []
    assert here.snapshots("web") == []


def _boots(here: Place, name: str) -> None:
    """An image that boots the guest."""
    file = here.root / f"{name}.made"
    make_disk(file, _SIZE)
    here.image(name, file.read_bytes())


def _disk(cluster: Cluster, secret: str, name: str, target: str = "vda") -> str:
    port, address = cluster.port, cluster.address
    return _DISK.format(secret=secret, name=name, address=address, port=port, target=target)


def _wait_for_writes(here: Place) -> None:
    until(lambda: counts(here.contents("web")), "the guest to write")
