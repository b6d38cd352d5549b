"""From a logical volume on host a to an image in a Ceph pool of host b, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

import virtstore

from ...ceph import cluster as ceph
from ...ceph.cluster import Cluster
from ..hosts import Hosts
from .shell import MIB, sh

_VOLUMES: Final = '[[volume_group]]\nname = "vg0"\naccess = "write"\n'
_VOLUME: Final = "/dev/vg0/newimage"
_IMAGE: Final = "/dev/rbd/vms/newimage"


@pytest.fixture(scope="module")
def cluster(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that both hosts reach. Only b is told of it."""
    if lacking := ceph.missing():
        pytest.skip(f"this needs: apt-get install {' '.join(lacking)}")
    sh("modprobe fuse")
    with ceph.running(tmp_path_factory.mktemp("ceph"), hosts.outside, 128 * MIB) as cluster:
        hosts.b.configuration.write_text(cluster.user().table())
        yield cluster


@pytest.fixture(scope="module")
def guest(hosts: Hosts) -> Iterator[None]:
    """A volume on a, mounted, of 32 MiB with 8 MiB of data."""
    hosts.a.configuration.write_text(_VOLUMES)
    sh("vgcreate -qq vg0 /dev/ubda && lvcreate -qq -L 32M -n newimage vg0")
    sh("mkdir /tmp/golden /mnt/guest && head -c 8M /dev/urandom >/tmp/golden/data")
    sh(f"mkfs.ext4 -q -d /tmp/golden {_VOLUME} && mount {_VOLUME} /mnt/guest")
    yield
    sh("umount /mnt/guest")


def test_a_running_guests_volume_becomes_an_image_in_a_pool_and_comes_back(
    hosts: Hosts, guest: None, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_RSH", hosts.rsh)
    with virtstore.connect("ssh:a") as a, virtstore.connect("ssh:b") as b:
        copied = a.image(_VOLUME).copy(b.image(_IMAGE), snapshot=True)
        back = copied.copy(a.image("/dev/vg0/back"))
    assert back.result.digest == copied.result.digest
    assert sh("lvs --noheadings -o lv_name vg0").split() == ["back", "newimage"]
    sh("e2fsck -fn /dev/vg0/back && mount -o ro /dev/vg0/back /mnt/guest")
    sh("cmp /tmp/golden/data /mnt/guest/data; umount /mnt/guest")


def test_a_cluster_in_a_machine_that_just_started_keeps_its_manager(cluster: Cluster) -> None:
    assert cluster.room()
    assert "unresponsive" not in cluster.ceph("log", "last", "100")
