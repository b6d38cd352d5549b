"""A volume of many segments is one volume, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore
from virtstore.model import ImageInfo

from .shell import MIB, sh

_CONFIGURATION = """
[[volume_group]]
name = "many"
access = "write"
"""


@pytest.fixture
def many(vg0: None) -> None:
    """A group on two disks, in which every kind of volume has been extended past another."""
    Path("/etc/virtstore/config.toml").write_text(_CONFIGURATION)
    sh(
        """
        wipefs -qa /dev/ubda; vgremove -qq -y vg0 || true; pvremove -qq -ff -y /dev/ubda || true
        pvcreate -qq /dev/ubda /dev/ubdb && vgcreate -qq -s 1M many /dev/ubda /dev/ubdb
        make() { lvcreate -qq -y "$@" many; }
        make -L 8M -n linear; make -L 8M -i 2 -n striped; make -L 8M --type raid1 -m 1 -n raid
        make -L 8M --type mirror -m 1 -n mirror; make -L 8M -n origin
        lvcreate -qq -y -s -L 4M -n thick-snapshot many/origin
        lvcreate -qq -y -L 40M -T many/pool; lvcreate -qq -y -V 8M --thinpool pool -n thin many
        lvcreate -qq -y -s -n thin-snapshot many/thin
        for round in 1 2 3; do
            for each in linear striped raid mirror origin thick-snapshot pool; do
                # Another volume in between, so that the next extent is not the neighbour.
                lvextend -qq -L +2M many/$each 2>/dev/null || true
                make -Zn -Wn -an -L 1M -n between-$each-$round
            done
        done
        lvremove -qq -y -S 'lv_name=~^between' many
        """
    )


def test_a_volume_of_many_segments_is_listed_once(many: None) -> None:
    segments = dict(
        line.split() for line in sh("lvs --noheadings -o lv_name,seg_count many").splitlines()
    )
    assert int(segments["linear"]) > 1
    assert int(segments["striped"]) > 1
    with virtstore.connect("local:") as here:
        short = [entry.path for entry in here.list("/dev/many")]
        long = here.list("/dev/many", long=True)
        [group] = here.storage_info().volume_groups
        grown = here.image("/dev/many/linear").grow(20 * MIB)
    expected = sorted(f"/dev/many/{name}" for name in segments if name != "pool")
    assert short == expected
    assert [entry.path for entry in long] == expected
    assert all(isinstance(entry, ImageInfo) for entry in long)
    assert [pool.name for pool in group.thin_pools] == ["pool"]
    assert grown.size == 20 * MIB
