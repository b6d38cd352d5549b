"""The contract of every store, kept in the lab: by directories on its file systems, and by
volumes, thick, thin, and thin in a pool that does not zero what it gives out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...contract.every_store import *  # noqa: F403
from ...contract.stores import Subject, directory, volumes
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
def subject(request: pytest.FixtureRequest, disks: None) -> Iterator[Subject]:
    kind: str = request.param
    if kind in ("xfs", "btrfs"):
        opened = directory(f"/mnt/{kind}")
    else:
        pool = "unzeroed" if kind == "thin-unzeroed" else "pool"
        opened = volumes("vg0", pool, thin=kind != "thick")
    with opened as subject:
        yield subject


def test_the_directories_are_on_the_file_systems_that_they_are_called_after(disks: None) -> None:
    assert sh("stat -f -c %T /mnt/xfs /mnt/btrfs").split() == ["xfs", "btrfs"]
