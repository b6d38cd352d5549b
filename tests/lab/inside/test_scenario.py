"""The proposal's scenario, literally, between two hosts: as commands and as Python.

A volume on host a is filled from a golden image, backed up to host b while its file system
is being written to, restored and grown. What was written are numbered blocks, each flushed
before the next: what the restored volume has of them shows at which moment it was taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import virtstore

from ..hosts import Host, Hosts
from .shell import MIB, sh

GOLDEN = "/mnt/a/ghost/FC7default.img"
BACKUP = "/mnt/b/backup23image"
VOLUME = "/dev/vg0/newimage"

_CONFIGURATION = """
[[volume_group]]
name = "vg0"
access = "write"
[[directory]]
path = "/mnt/a/ghost"
access = "read"
volatile = true
[[directory]]
path = "/mnt/a/images"
access = "write"
volatile = true
"""
_BACKUPS = """
[[directory]]
path = "/mnt/b"
access = "write"
volatile = true
[[volume_group]]
name = "vg0"
access = "write"
"""


class Writer:
    """A guest at work: block n of a file holds the number n, and is on the disk before
    `written` says n + 1."""

    def __init__(self, path: Path) -> None:
        self.written = 0
        self._file = path.open("wb", buffering=0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._file.write(f"{self.written:08}".encode() * 512)
            os.fsync(self._file.fileno())
            self.written += 1
            self._stop.wait(0.02)

    def __enter__(self) -> Writer:
        self._thread.start()
        while not self.written:
            self._stop.wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.close()


@pytest.fixture(scope="module")
def places(hosts: Hosts) -> None:
    sh("vgcreate -qq vg0 /dev/ubda")
    sh("mkdir -p /mnt/a/ghost /mnt/a/images /mnt/b /mnt/guest /tmp/golden")
    sh("head -c 20M /dev/urandom >/tmp/golden/data")
    sh(f"truncate -s 64M {GOLDEN} && mkfs.ext4 -q -d /tmp/golden {GOLDEN}")
    hosts.a.configuration.write_text(_CONFIGURATION)
    hosts.b.configuration.write_text(_BACKUPS)


@pytest.fixture
def two(hosts: Hosts, places: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    monkeypatch.setenv("VIRTSTORE_RSH", hosts.rsh)
    yield hosts
    sh(f"rm -f {BACKUP} && lvremove -qq -y vg0")


@contextmanager
def running_guest() -> Iterator[Writer]:
    """The volume is mounted, and its file `blocks` grows."""
    sh(f"mount {VOLUME} /mnt/guest")
    try:
        with Writer(Path("/mnt/guest/blocks")) as writer:
            yield writer
    finally:
        sh("umount /mnt/guest")


def blocks() -> int:
    """How many of the guest's blocks the volume has; all that there are must be whole."""
    sh(f"mount -o ro {VOLUME} /mnt/guest")
    try:
        assert sh("cmp /tmp/golden/data /mnt/guest/data") == ""
        found = Path("/mnt/guest/blocks").read_bytes()
        count = len(found) // 4096
        assert found == b"".join(f"{n:08}".encode() * 512 for n in range(count))
        return count
    finally:
        sh("umount /mnt/guest")


def check_restored(before: int, after: int) -> None:
    """The volume is what it was at one moment of the backup."""
    sh(f"e2fsck -fn {VOLUME}")
    assert before <= blocks() <= after
    assert sh("lvs --noheadings -o lv_name vg0") == "newimage"


def check_grown() -> None:
    sh(f"e2fsck -fn {VOLUME}")
    assert int(sh(f"blockdev --getsize64 {VOLUME}")) == 200 * MIB
    told = dict(
        line.split(":", 1) for line in sh(f"dumpe2fs -h {VOLUME} | grep '^Block'").split("\n")
    )
    assert int(told["Block count"]) * int(told["Block size"]) == 200 * MIB


def at(host: Host, path: str) -> str:
    return f"{host.name}:{path}"


def virtstore_json(*arguments: str) -> dict[str, Any]:
    """What a command answered."""
    argv = [str(Path(sys.executable).with_name("virtstore")), *arguments, "--json"]
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_proposals_scenario_as_commands(two: Hosts) -> None:
    a, b = two.a, two.b
    image, backup = at(a, VOLUME), at(b, BACKUP)
    storage = virtstore_json("storage-info", "a:")
    assert [g["path"] for g in storage["volume_groups"]] == ["/dev/vg0"]
    assert virtstore_json("create", image, "100M")["size"] == 100 * MIB
    assert virtstore_json("copy-contents", at(a, GOLDEN), image)["size"] == 64 * MIB
    assert virtstore_json("growfs", image)["filesystem"]["size"] == 100 * MIB
    with running_guest() as guest:
        before = guest.written
        copied = virtstore_json("copy", "--snapshot", "--archive", image, backup)
        after = guest.written
    assert copied["target"] == backup
    restored = virtstore_json("copy-contents", backup, image)
    assert restored["digest"] == copied["digest"]
    assert 0 < int(str(restored["written"])) < 40 * MIB  # of 100: what the guest changed since
    check_restored(before, after)
    assert virtstore_json("grow", image, "200M")["size"] == 200 * MIB
    assert virtstore_json("growfs", image)["filesystem"]["size"] == 200 * MIB
    check_grown()


def test_the_proposals_scenario_in_python(two: Hosts) -> None:
    with virtstore.connect("ssh:a") as a, virtstore.connect("ssh://b") as b:
        vg = a.storage_info().volume_groups[0]
        image = a.create(f"{vg.path}/newimage", "100M")
        a.image(GOLDEN).copy_contents(image)
        image.growfs()
        with running_guest() as guest:
            before = guest.written
            backup = image.copy(b.image(BACKUP), snapshot=True, archive=True, overwrite=False)
            after = guest.written
        assert backup.verify().digest == backup.result.digest
        restored = backup.copy_contents(image)
        assert restored.result.digest == backup.result.digest
        check_restored(before, after)
        image.grow("200M")
        image.growfs()
        check_grown()


def test_the_proposals_scenario_with_a_qcow2_that_becomes_a_volume_and_comes_back(
    two: Hosts,
) -> None:
    sh("modprobe fuse")
    a, b = two.a, two.b
    image, backup = at(a, "/mnt/a/images/newimage.qcow2"), at(b, BACKUP)
    restored, back = at(b, VOLUME), at(a, "/mnt/a/images/back.qcow2")
    assert virtstore_json("create", image, "100M")["size"] == 100 * MIB
    virtstore_json("copy-contents", at(a, GOLDEN), image)
    assert virtstore_json("growfs", image)["filesystem"]["size"] == 100 * MIB
    copied = virtstore_json("copy", "--archive", image, backup)
    for source, target in ((backup, restored), (restored, back)):
        assert virtstore_json("copy", source, target)["digest"] == copied["digest"]
    found = virtstore_json("info", back)
    assert (found["container"], found["filesystem"]["type"]) == ("qcow2", "ext4")
    sh(f"e2fsck -fn {VOLUME} && mount -o ro {VOLUME} /mnt/guest")
    sh("cmp /tmp/golden/data /mnt/guest/data; umount /mnt/guest")
    sh(f"qemu-img compare -f qcow2 -F raw /mnt/a/images/back.qcow2 {VOLUME}")
    sh("rm /mnt/a/images/*")
