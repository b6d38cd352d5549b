"""A volume that somebody uses is left alone, and who that is is said."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import virtstore

from .shell import MIB, lvs, sh


@pytest.fixture
def image(here: virtstore.Host) -> virtstore.Image:
    return here.create("/dev/vg0/web", 16 * MIB)


@contextmanager
def between(begin: str, end: str) -> Iterator[None]:
    sh(begin)
    try:
        yield
    finally:
        sh(end)


@contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is ready."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def check_refused(image: virtstore.Image, by: str, detail: str) -> None:
    """Everything that would harm its user is refused, with the evidence; looking is not."""
    found = image.info().in_use
    assert any(use.by == by and detail in use.detail for use in found), found
    with pytest.raises(virtstore.InUse, match=detail):
        image.delete()
    with pytest.raises(virtstore.InUse, match=detail):
        image.shrink("-4M", discard_data=True)
    assert (image.info().size, lvs()) == (16 * MIB, {"web"})


def test_a_process_has_it_open(image: virtstore.Image) -> None:
    with running("sh", "-c", f"exec 7<{image.path}; echo ready; exec sleep 60"):
        check_refused(image, "process", "pid")


def test_it_is_mounted(image: virtstore.Image) -> None:
    sh(f"mkfs.ext4 -q {image.path} && mkdir -p /mnt/guest")
    with between(f"mount {image.path} /mnt/guest", "umount /mnt/guest"):
        check_refused(image, "mount", "/mnt/guest")
        assert image.info().mounted


def test_it_is_mounted_in_another_mount_namespace(image: virtstore.Image) -> None:
    sh(f"mkfs.ext4 -q {image.path} && mkdir -p /mnt/guest")
    line = f"mount {image.path} /mnt/guest && echo ready && exec sleep 60"
    with running("unshare", "--mount", "--kill-child", "--fork", "sh", "-c", line):
        assert "/mnt/guest" not in Path("/proc/mounts").read_text()
        check_refused(image, "mount", "/mnt/guest")
    time.sleep(0.5)  # the namespace goes with its last process


def test_another_device_is_stacked_on_it(image: virtstore.Image) -> None:
    table = f"0 8192 linear {image.path} 0"
    with between(f"dmsetup create stacked --table '{table}'", "dmsetup remove --retry stacked"):
        check_refused(image, "holder", "/dev/dm-")


def test_a_loop_device_is_on_it(image: virtstore.Image) -> None:
    with between(f"losetup /dev/loop7 {image.path}", "losetup -d /dev/loop7"):
        check_refused(image, "loop", "/dev/loop7")


def test_it_is_swap(image: virtstore.Image) -> None:
    with between(f"mkswap -q {image.path} && swapon {image.path}", f"swapoff {image.path}"):
        check_refused(image, "swap", "/dev/")


MAPPED_AND_CLOSED = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
fd = os.open(sys.argv[1], os.O_RDONLY)
assert libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0)) != -1
os.close(fd)
print("ready", flush=True)
time.sleep(60)
"""


def test_somebody_has_it_open_whom_nothing_shows(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    with running(sys.executable, "-c", MAPPED_AND_CLOSED, image.path):
        check_refused(image, "open-count", "nothing more is known")
        with pytest.raises(virtstore.InUse, match="nothing more is known"):
            image.copy(here.image("/mnt/images/x.img"))
        # Whoever is shown reads only, and there is one more.
        with running("sh", "-c", f"exec 7<{image.path}; echo ready; exec sleep 60"):
            assert {use.by for use in image.info().in_use} == {"process", "open-count"}
    image.delete()
    assert lvs() == set()


def test_readers_that_are_all_shown_do_not_keep_it_from_being_read(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    with running("sh", "-c", f"exec 7<{image.path} 8<{image.path}; echo ready; exec sleep 60"):
        assert [use.by for use in image.info().in_use] == ["process"]
        target = here.image("/mnt/images/x.img")
        image.copy(target)
        target.delete()


def test_a_btrfs_in_it_is_mounted(image: virtstore.Image) -> None:
    image.delete()
    image = image.host.create(image.path, 128 * MIB)
    sh(f"mkfs.btrfs -q {image.path} && mkdir -p /mnt/guest")
    with between(f"mount {image.path} /mnt/guest", "umount /mnt/guest"):
        assert "/mnt/guest" in [use.detail for use in image.info().in_use if use.by == "mount"]
        with pytest.raises(virtstore.InUse, match="/mnt/guest"):
            image.delete()


def test_snapshots_depend_on_it(image: virtstore.Image) -> None:
    taken = image.snapshot("s1", size="4M")
    assert image.info().snapshots == (taken.path,)
    assert (taken.info().snapshot_of, taken.info().size) == (image.path, 16 * MIB)
    with pytest.raises(virtstore.InUse, match="--with-snapshots"):
        image.delete()
    assert lvs() == {"web", "s1"}
    assert image.delete(with_snapshots=True).changed
    assert lvs() == set()


def test_a_snapshot_that_is_used_keeps_its_origin(image: virtstore.Image) -> None:
    taken = image.snapshot("s1", size="4M")
    with (
        running("sh", "-c", f"exec 7<{taken.path}; echo ready; exec sleep 60"),
        pytest.raises(virtstore.InUse),
    ):
        image.delete(with_snapshots=True)
    assert lvs() == {"web", "s1"}


def test_what_udev_holds_for_a_moment_is_waited_for(image: virtstore.Image) -> None:
    # A write makes udev look at the volume as soon as it is closed.
    for _ in range(3):
        sh(f"dd if=/dev/zero of={image.path} bs=4k count=1 conv=notrunc status=none")
        image.grow("+4M")
        image.shrink("-4M", discard_data=True)
    sh(f"dd if=/dev/zero of={image.path} bs=4k count=1 conv=notrunc status=none")
    image.delete()
    assert lvs() == set()


def test_a_worker_of_udev_is_waited_for(image: virtstore.Image) -> None:
    name = "printf '(udev-worker)' >/proc/self/comm"
    with running("sh", "-c", f"{name}; exec 7<{image.path}; echo ready; sleep 1 7<&-"):
        image.delete()
    assert lvs() == set()


def test_a_volume_that_is_opened_while_it_is_deleted_goes_or_stays_whole(
    image: virtstore.Image,
) -> None:
    def hold() -> None:
        with Path(image.path).open("rb"):
            time.sleep(1)

    holder = threading.Timer(0.15, hold)
    holder.start()
    refused = None
    try:
        image.delete()
    except virtstore.InUse as error:
        refused = error
    holder.join()
    assert lvs() == ({"web"} if refused else set())
