"""A configured disk or partition that this host has some other use for is left alone: its own
partitions, the disk that it lies on, swap, LVM, device mapper; and what else is configured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import virtstore

from .shell import MIB, sh

CONFIGURATION = Path("/etc/virtstore/config.toml")
DISK, FIRST, SECOND = "/dev/ubdb", "/dev/ubdb1", "/dev/ubdb2"
Opened = Callable[..., virtstore.Host]


@pytest.fixture(autouse=True)
def partitions() -> None:
    """A disk with two partitions of 24 MiB, whatever a test before made of it, and a directory."""
    sh("mkdir -p /mnt/images /mnt/guest /etc/virtstore")
    sh(f"printf 'label: gpt\\n,24M\\n,24M\\n' | sfdisk -q --wipe always {DISK} && udevadm settle")
    sh("head -c 1M /dev/urandom >/mnt/images/x.img")


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens sessions in which these block devices are configured."""
    hosts: list[virtstore.Host] = []

    def open_one(*paths: str, more: str = "") -> virtstore.Host:
        tables = [f'[[block_device]]\npath = "{path}"\naccess = "write"\n' for path in paths]
        images = '[[directory]]\npath = "/mnt/images"\naccess = "write"\nvolatile = true\n'
        CONFIGURATION.write_text("".join([images, more, *tables]))
        hosts.append(virtstore.connect("local:"))
        return hosts[-1]

    yield open_one
    for host in hosts:
        host.close()


@contextmanager
def between(begin: str, end: str) -> Iterator[None]:
    sh(begin)
    try:
        yield
    finally:
        sh(end)


def check_refused(host: virtstore.Host, path: str, why: str) -> None:
    """Everything that would write to it is refused, with the evidence, and nothing is written."""
    before = sh(f"b2sum <{path}")
    source, target = host.image("/mnt/images/x.img"), host.image(path)
    acts: list[Callable[[], object]] = [
        lambda: source.copy(target, overwrite=True),
        lambda: source.copy_contents(target),
    ]
    for act in acts:
        sh("udevadm settle")  # which opens what was open for writing, and would be told of instead
        with pytest.raises(virtstore.InUse, match=why):
            act()
    assert target.info().state == "complete"
    assert sh(f"b2sum <{path}") == before


def test_a_disk_whose_partition_is_mounted_is_used(opened: Opened) -> None:
    sh(f"mkfs.ext4 -q -F {FIRST}")
    with between(f"mount -o ro {FIRST} /mnt/guest", "umount /mnt/guest"):
        check_refused(opened(DISK), DISK, r"mount: /mnt/guest \(its partition 1\)")
        check_refused(opened(FIRST), FIRST, "mount: /mnt/guest")


def test_a_partition_whose_neighbour_is_mounted_is_free(opened: Opened) -> None:
    sh(f"mkfs.ext4 -q -F {FIRST}")
    with between(f"mount -o ro {FIRST} /mnt/guest", "umount /mnt/guest"):
        host = opened(SECOND)
        host.image("/mnt/images/x.img").copy(host.image(SECOND), overwrite=True)
    assert sh(f"cmp -n {MIB} /mnt/images/x.img {SECOND}") == ""


def test_a_partition_that_is_swap_is_used_and_so_is_its_disk(opened: Opened) -> None:
    with between(f"mkswap -q {FIRST} && swapon {FIRST}", f"swapoff {FIRST}"):
        check_refused(opened(FIRST), FIRST, "swap: ")
        check_refused(opened(DISK), DISK, r"swap: .*its partition 1")


def test_what_another_device_is_stacked_on_is_used(opened: Opened) -> None:
    table = f"0 8192 linear {FIRST} 0"
    with between(f"dmsetup create stacked --table '{table}'", "dmsetup remove stacked"):
        check_refused(opened(FIRST), FIRST, "holder: ")
        check_refused(opened(DISK), DISK, r"holder: .*its partition 1")


def test_a_physical_volume_is_used_also_where_nothing_in_its_group_is_active(
    opened: Opened,
) -> None:
    with between(f"pvcreate -qq -ff -y {SECOND}", f"pvremove -qq -ff -y {SECOND}"):
        check_refused(opened(SECOND), SECOND, "physical volume .*of no volume group")
        sh(f"vgcreate -qq vgx {SECOND}")
        check_refused(opened(SECOND), SECOND, r"physical volume .*vgx")
        check_refused(opened(DISK), DISK, r"physical volume .*vgx")
        wrong = [each for each in opened(SECOND).doctor() if each.is_wrong]
        assert [(each.severity, "vgx" in each.what) for each in wrong] == [("warning", True)]
        sh("lvcreate -qq -y -L 4M -n lv vgx")
        check_refused(opened(DISK), DISK, "holder: ")
        sh("vgremove -qq -y vgx")


def test_what_this_hosts_lvm_is_kept_from_is_a_guests(opened: Opened) -> None:
    sh(f"pvcreate -qq -ff -y {SECOND}")
    local = Path("/etc/lvm/lvm.conf")
    kept = local.read_text()
    try:
        local.write_text(f'{kept}\ndevices {{ global_filter = [ "r|{SECOND}|" ] }}\n')
        assert SECOND not in sh("pvs --noheadings -o pv_name")
        host = opened(SECOND)
        host.image("/mnt/images/x.img").copy(host.image(SECOND), overwrite=True)
    finally:
        local.write_text(kept)


def test_a_volume_is_used_through_its_group(opened: Opened) -> None:
    sh("vgcreate -qq vg0 /dev/ubda && lvcreate -qq -y -L 8M -n web vg0")
    group = '[[volume_group]]\nname = "vg0"\naccess = "write"\n'
    try:
        dm = sh("realpath /dev/vg0/web")
        for path in ("/dev/mapper/vg0-web", dm):
            with pytest.raises(
                virtstore.Denied, match="logical volume; configure its volume group"
            ):
                opened(path, more=group).image(path).info()
        assert opened(more=group).image("/dev/vg0/web").info().type == "lvm"
    finally:
        sh("vgremove -qq -y vg0 && pvremove -qq /dev/ubda")


def test_a_disk_and_its_partition_are_not_both_configured(opened: Opened) -> None:
    host = opened(DISK, FIRST)
    for path, why in ((DISK, "is a partition of it"), (FIRST, f"a partition of {DISK}")):
        with pytest.raises(virtstore.Denied, match=why):
            host.image(path).info()
    both = opened(FIRST, SECOND)
    assert [both.image(path).info().size for path in (FIRST, SECOND)] == [24 * MIB] * 2


def test_a_disk_with_partitions_is_copied_whole_and_what_is_in_them_resized(opened: Opened) -> None:
    sh("truncate -s 64M /mnt/images/d.img")
    sh("printf 'label: gpt\\n,40M\\n' | sfdisk -q /mnt/images/d.img")
    host = opened(DISK)
    disk = host.image(DISK)
    host.image("/mnt/images/d.img").copy(disk, overwrite=True)
    sh(f"udevadm settle; blockdev --rereadpt {DISK}; udevadm settle; mkfs.ext4 -q -F {FIRST}")
    size = disk.info().size
    grown = disk.growfs(partition=1)
    assert grown.size == size
    assert grown.filesystem
    assert size
    assert grown.filesystem.size > size - 4 * MIB
    shrunk = disk.shrinkfs("32M", partition=1)
    assert shrunk.filesystem
    assert (shrunk.size, shrunk.filesystem.size) == (size, 32 * MIB)
    sh(f"udevadm settle; blockdev --rereadpt {DISK}; udevadm settle; e2fsck -fn {FIRST}")
