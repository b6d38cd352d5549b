"""The contract of every store, kept in the lab: by directories on its file systems, and by
volumes, thick, thin, and thin in a pool that does not zero what it gives out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from virtstore.backends.base import Store

from ...contract.stores import directory, volumes
from ...contract.test_backends import *  # noqa: F403
from ...contract.test_backends_changes import *  # noqa: F403
from .shell import MIB, fill, sh


@pytest.fixture(scope="module")
def disks() -> None:
    """A volume group with two pools, of which each block has held something, and mounts."""
    sh("vgcreate -qq -s 1M vg0 /dev/ubda && lvcreate -qq -y -L 100M -n old vg0")
    fill("/dev/vg0/old", 100 * MIB)
    sh("lvremove -qq -y vg0/old")
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    sh("lvcreate -qq -y --type thin-pool -Zn -L 32M -n unzeroed vg0")
    sh("vgcreate -qq vg1 /dev/ubdb && lvcreate -qq -y -L 320M -n xfs vg1")
    sh("lvcreate -qq -y -L 320M -n btrfs vg1")
    for kind in ("xfs", "btrfs"):
        sh(f"mkfs.{kind} -q /dev/vg1/{kind} && mkdir /mnt/{kind}")
        sh(f"mount /dev/vg1/{kind} /mnt/{kind}")


@pytest.fixture(params=["thick", "thin", "thin-unzeroed", "xfs", "btrfs"])
def store(request: pytest.FixtureRequest, disks: None) -> Iterator[Store]:
    pools = {"thick": None, "thin": "pool", "thin-unzeroed": "unzeroed"}
    kind: str = request.param
    opened = volumes("vg0", pools[kind]) if kind in pools else directory(f"/mnt/{kind}")
    with opened as store:
        yield store


def test_the_directories_are_on_the_file_systems_that_they_are_called_after(disks: None) -> None:
    assert sh("stat -f -c %T /mnt/xfs /mnt/btrfs").split() == ["xfs", "btrfs"]
