"""What virtstore's tests rely on in the lab: LVM, udev, file systems, device-mapper."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def sh(script: str) -> str:
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def test_we_are_root_and_the_tree_outside_is_read_only() -> None:
    assert os.getuid() == 0
    assert "ro" in sh("findmnt -no OPTIONS /").split(",")


def test_volumes_and_snapshots_thick_and_thin_have_their_links_when_lvcreate_returns() -> None:
    sh("vgcreate vg0 /dev/ubda /dev/ubdb")
    sh("lvcreate --yes --type thin-pool -L 128M -n pool vg0")
    for options, name in (
        ("-L 64M -n thick vg0", "thick"),
        ("-L 32M -s -n thick-s vg0/thick", "thick-s"),
        ("-V 256M --thinpool pool -n thin vg0", "thin"),
        ("-kn -s -n thin-s vg0/thin", "thin-s"),
    ):
        sh(f"lvcreate --yes {options}")
        assert Path(f"/dev/vg0/{name}").is_block_device()
    sh("vgremove --yes vg0")
    assert not Path("/dev/vg0").exists()


def test_a_snapshot_keeps_what_its_origin_loses() -> None:
    sh("vgcreate vg0 /dev/ubda && lvcreate --yes -L 64M -n origin vg0")
    sh("echo old >/dev/vg0/origin && lvcreate -s -L 32M -n snap vg0/origin")
    sh("echo new >/dev/vg0/origin")
    assert sh("head -c 3 /dev/vg0/snap; head -c 3 /dev/vg0/origin") == "oldnew"
    sh("vgremove --yes vg0")


def test_xfs_and_btrfs_share_blocks_between_files() -> None:
    for make in ("mkfs.xfs -q -f", "mkfs.btrfs -q -f"):
        sh(f"{make} /dev/ubda && mount /dev/ubda /mnt && head -c 8M /dev/urandom >/mnt/a")
        sh("cp --reflink=always /mnt/a /mnt/b && cmp /mnt/a /mnt/b && umount /mnt")
    sh("wipefs --all /dev/ubda")


def test_a_loop_device_and_an_overlay_can_be_mounted() -> None:
    sh("truncate -s 64M /tmp/image && mkfs.ext4 -q /tmp/image && mkdir /mnt/1 /mnt/2 /tmp/u /tmp/w")
    sh("mount -o loop /tmp/image /mnt/1 && umount /mnt/1")
    sh("mount -t overlay -o lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w overlay /mnt/2")
    sh("touch /mnt/2/new && umount /mnt/2 && test -e /tmp/u/new")


def test_a_flaky_disk_fails_its_writes_when_told_to() -> None:
    table = "0 $(blockdev --getsz /dev/ubda) flakey /dev/ubda 0"
    sh(f'dmsetup create lab-flaky --table "{table} 0 1 1 error_writes"')
    failed = subprocess.run(
        ["dd", "if=/dev/zero", "of=/dev/mapper/lab-flaky", "bs=4k", "count=1", "oflag=direct"],
        capture_output=True,
        check=False,
    )
    sh("dmsetup remove lab-flaky")
    assert b"Input/output error" in failed.stderr
