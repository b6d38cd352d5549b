"""An export is read by many at the same time, and a machine boots from it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from tests import guest, warm
from tests.waiting import until

import virtstore
from virtstore.backends.nbd.export import Export as Client

from .test_agent_commands import MIB, images

__all__ = ["images"]  # a fixture

#: Kilobytes of memory that neither end may take, whatever the image's size and whoever reads.
MOST: Final = 160 << 10


@pytest.fixture
def disk(images: Path) -> Path:
    """A disk of 96 MiB that nothing compresses, with zeros in every third MiB."""
    disk = images / "disk.img"
    with disk.open("wb") as file:
        for number in range(96):
            file.write(random.Random(number).randbytes(MIB) if number % 3 else bytes(MIB))
    return disk


@pytest.mark.parametrize("archive", [False, True])
def test_many_clients_at_once_read_what_is_there(disk: Path, archive: bool) -> None:
    expected = disk.read_bytes()
    with virtstore.connect() as host:
        image: virtstore.Image = host.image(str(disk))
        if archive:
            image = image.copy(host.image(f"{disk}.zst"), archive=True)
        with image.export() as export:

            def read(number: int) -> bool:
                chosen = random.Random(number)
                with Client(export.socket) as client:
                    for _ in range(20):
                        length = chosen.choice((512, 4096, 70_000, 3 * MIB))
                        offset = chosen.randrange(len(expected) - length)
                        if client.read_at(offset, length) != expected[offset : offset + length]:
                            return False
                return True

            with ThreadPoolExecutor(24) as pool:
                assert all(pool.map(read, range(24)))


def peak(pid: int) -> int:
    """The most memory that a process took, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_memory_does_not_grow_with_the_image(disk: Path) -> None:
    others = {*_children("python")}
    with warm.as_usual(), virtstore.connect() as host:
        archive = host.image(str(disk)).copy(host.image(f"{disk}.zst"), archive=True)
        with archive.export() as export:
            agents = {*_children("python"), *_children("virtstore")} - others
            [nbdkit] = _children("nbdkit")
            subprocess.run(["nbdcopy", export.uri, "null:"], check=True)
            assert agents
            assert max(peak(pid) for pid in agents) < MOST
            # It has no more than what its threads are asked for, and libraries.
            assert peak(nbdkit) < MOST


def _children(name: str) -> list[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in pids if name in Path(f"/proc/{pid}/comm").read_text()]


def test_a_machine_boots_from_a_backup_and_writes_elsewhere(images: Path, tmp_path: Path) -> None:
    disk = images / "guest.img"
    disk.write_bytes(guest.boot_sector())
    os.truncate(disk, guest.NEEDED)
    overlay = tmp_path / "overlay.qcow2"
    with virtstore.connect() as host:
        backup = host.image(str(disk)).copy(host.image(f"{disk}.zst"), archive=True)
        before = Path(backup.path).read_bytes()
        with backup.export() as export:
            create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", export.uri]
            subprocess.run([*create, overlay], check=True)
            qemu = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nic", "none"]
            drive = f"file={overlay},format=qcow2,cache=writethrough"
            with subprocess.Popen([*qemu, "-drive", drive], stdin=subprocess.DEVNULL) as machine:
                try:
                    until(lambda: len(_counts(overlay)) > 3, "the guest's writes")
                finally:
                    machine.kill()
            assert _counts(overlay)
        assert Path(backup.path).read_bytes() == before


def _counts(overlay: Path) -> list[int]:
    """What the guest has counted, by what lies in its overlay; the backing image is not asked."""
    copied = overlay.with_suffix(".raw")
    alone = overlay.with_suffix(".alone")
    shutil.copy(overlay, alone)
    backing = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", str(alone)]
    if subprocess.run(backing, capture_output=True).returncode:
        return []  # it is being written
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", alone, copied], check=True)
    return list(guest.counts(copied.read_bytes()))
