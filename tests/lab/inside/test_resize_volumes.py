"""Images on logical volumes, and those that only the kernel can resize: larger, to the minimum
and larger again, through the agent, with every file in them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

import virtstore
from tests.tools import swap_images
from tests.tools.ext_images import TORTURE, Tree, new_tree, opened
from tests.tools.resize_images import (
    BARE,
    GPT,
    Layout,
    Made,
    check,
    make_filesystem,
    make_image,
)
from virtstore.model import Changed

from ...waiting import PATIENCE, until
from .mounts import FILESYSTEMS, MADE, check_whole, make, make_tree, nothing_is_left
from .shell import CONFIGURATION, MIB, sh

IMAGES: Final = Path("/mnt/images")
VOLUME: Final = "/dev/vg0/x"
SWAP_DISK: Final = "gpt"
_LIMITS: Final = "[limits]\nmount_guest_filesystems = true\n"
#: In front of the partition, and what a GPT wants behind it.
START: Final = 3 * MIB


@pytest.fixture(scope="module", autouse=True)
def places() -> None:
    sh("vgcreate -qq vg0 /dev/ubda && mkdir -p /mnt/images /etc/virtstore")
    Path("/etc/virtstore/config.toml").write_text(CONFIGURATION + _LIMITS)


@pytest.fixture
def host() -> Iterator[virtstore.Host]:
    with virtstore.connect() as here:
        yield here
    sh("rm -rf /mnt/images/* && lvremove -qq -y vg0")
    until(nothing_is_left, "all mounts and loop devices are gone")


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with new_tree(25) as tree:
        yield tree


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("files"), 60)


@contextmanager
def on_a_volume(host: virtstore.Host, source: Path, size: int) -> Iterator[virtstore.Image]:
    """A new volume with the contents of an image."""
    volume = host.create(VOLUME, size)
    yield host.image(str(source)).copy_contents(volume)
    volume.delete()


def looked_at(made: Made) -> Made:
    """A file with what is on the volume, which sfdisk gives the names that it gave the source."""
    sh(f"rm -f /mnt/images/copy && cp --sparse=always {VOLUME} /mnt/images/copy")
    return made._replace(path=IMAGES / "copy")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("ext4", GPT),
        pytest.param("ntfs", BARE, marks=pytest.mark.torture),
        pytest.param("ext2", BARE, marks=pytest.mark.torture),
        pytest.param("swap", BARE, marks=pytest.mark.torture),
    ],
)
def test_a_volume_grows_shrinks_to_its_minimum_and_grows(
    host: virtstore.Host, tree: Tree, kind: str, layout: Layout
) -> None:
    source = Path("/run/source")
    contents = make_filesystem(source, kind, tree)
    made = make_image(IMAGES / "image", layout, kind, source, contents)
    with on_a_volume(host, made.path, 28 * MIB) as volume:
        grown = volume.resize("44M")
        assert (grown.size, grown.changed) == (44 * MIB, True)
        assert grown.filesystem
        assert grown.filesystem.size > 38 * MIB
        check(looked_at(made))
        least = volume.resize("minimum")
        assert least.size
        assert least.size == int(sh(f"blockdev --getsize64 {VOLUME}"))
        assert least.size % (4 * MIB) == 0
        assert least.size <= 24 * MIB
        check(looked_at(made))
        assert volume.resize("30M").size == 32 * MIB
        check(looked_at(made))


@pytest.fixture
def swap_disk(host: virtstore.Host, tree: Tree) -> Iterator[virtstore.Image]:
    """A volume with swap behind the root of its disk."""
    swap_images.make(IMAGES / "image", SWAP_DISK, tree)
    with on_a_volume(host, IMAGES / "image", 20 * MIB) as volume:
        yield volume


def copied() -> Path:
    """A file with what is on the volume."""
    sh(f"rm -f /mnt/images/copy && cp --sparse=always {VOLUME} /mnt/images/copy")
    return IMAGES / "copy"


def test_swap_behind_the_root_of_a_volume_moves_to_its_new_end(
    swap_disk: virtstore.Image, tree: Tree
) -> None:
    for size in ("minimum", "40M"):
        done = swap_disk.resize(size, move_swap=True)
        assert done.moved
        assert done.size == int(sh(f"blockdev --getsize64 {VOLUME}"))
        places = swap_images.finished(copied(), SWAP_DISK, tree)
        assert (done.moved.number, done.moved.start, swap_images.SWAPPED) in places
    assert done.size == 40 * MIB
    assert sh("lvs --noheadings -o lv_name,lv_tags vg0") == "x"


@pytest.mark.parametrize("seed", range(30 if TORTURE else 1))
def test_a_killed_move_of_swap_leaves_a_disk_to_boot_from_and_is_finished_by_the_same_command(
    swap_disk: virtstore.Image, tree: Tree, seed: int
) -> None:
    size = ("minimum", "40M")[seed % 2]
    argv = ["virtstore", "resize", VOLUME, size, "--move-swap"]
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.Random(seed).uniform(1, 8))
    kill_agents_of(running)
    until(has_its_name, "the next agent has put things right")
    swap_images.bootable(copied(), SWAP_DISK, tree)
    swap_disk.resize(size, move_swap=True)
    swap_images.finished(copied(), SWAP_DISK, tree)
    assert sh("lvs --noheadings -o lv_name,lv_tags vg0") == "x"


def kill_agents_of(client: subprocess.Popen[bytes]) -> None:
    """It may have ended before."""
    with suppress(FileNotFoundError):
        for pid in Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    client.wait(timeout=PATIENCE)


def has_its_name() -> bool:
    """A tool that outlives its agent keeps the volume's lock until it ends."""
    with virtstore.connect() as next_agent:
        next_agent.list("/dev/vg0")
    return Path(VOLUME).exists()


def in_gpt(path: Path, size: int, part: int) -> None:
    sh(f"truncate -s {size} {path}")
    script = f"label: gpt\\nstart=1MiB,size=1MiB\\nstart=3MiB,size={part // 512},name=root"
    sh(f"printf '{script}\\n' | sfdisk -q --no-tell-kernel {path}")


def mounted_image(kind: str, start: int, files: Path) -> Path:
    """An image with a file system that only the kernel resizes, filling it."""
    path = IMAGES / "image"
    if start:
        in_gpt(path, start + MADE + MIB, MADE)
    else:
        sh(f"truncate -s {MADE} {path}")
    with opened(path) as device:
        make(device.part(start, MADE), kind, files, made=MADE)
    return path


def whole(path: Path, kind: str, start: int, files: Path) -> None:
    with opened(path) as device:
        check_whole(device.part(start, device.size - start), kind, files)
    if start:
        assert "No errors detected" in sh(f"sfdisk --verify {path}")
        assert "No problems found" in sh(f"sgdisk -v {path}")


def steps(at: virtstore.Image, kind: str, judge: Callable[[], None], start: int) -> Changed:
    grown = at.resize("400M")
    assert (grown.size, grown.changed) == (400 * MIB, True)
    assert grown.filesystem
    assert grown.filesystem.size > 400 * MIB - start - 2 * MIB
    judge()
    if kind == "xfs":
        with pytest.raises(virtstore.Unsupported, match="XFS cannot shrink"):
            at.resize("390M")
        if start:  # what is free behind the partition is cut
            cut = at.resize("minimum")
            assert cut.size
            assert 398 * MIB < cut.size <= 400 * MIB
            assert any("XFS cannot shrink" in warning for warning in cut.warnings)
        else:
            with pytest.raises(virtstore.Unsupported, match="XFS cannot shrink"):
                at.resize("minimum")
    else:
        least = at.resize("minimum").size
        assert least
        assert least < 390 * MIB
    judge()
    return at.resize("440M")


@pytest.mark.torture
@pytest.mark.parametrize(("kind", "start"), [("xfs", START), ("btrfs", 0)])
def test_what_is_resized_mounted_keeps_its_files(
    host: virtstore.Host, files: Path, kind: str, start: int
) -> None:
    path = mounted_image(kind, start, files)
    last = steps(host.image(str(path)), kind, lambda: whole(path, kind, start, files), start)
    assert last.size == 440 * MIB
    whole(path, kind, start, files)


@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_what_is_resized_mounted_keeps_its_files_on_a_volume(
    host: virtstore.Host, files: Path, kind: str
) -> None:
    start = START if kind == "btrfs" else 0
    path = mounted_image(kind, start, files)

    def judge() -> None:
        sh(f"rm -f {path} && cp --sparse=always {VOLUME} {path}")
        whole(path, kind, start, files)

    with on_a_volume(host, path, start + MADE + MIB) as volume:
        assert steps(volume, kind, judge, start).size == 440 * MIB
        judge()


@pytest.mark.parametrize("kind", ["xfs", pytest.param("btrfs", marks=pytest.mark.torture)])
def test_without_the_hosts_leave_nothing_is_mounted_and_the_lines_to_write_are_shown(
    host: virtstore.Host, files: Path, kind: str, tmp_path: Path
) -> None:
    path = mounted_image(kind, 0, files)
    os.truncate(path, MADE + 16 * MIB)
    config = tmp_path / "config.toml"
    config.write_text(CONFIGURATION)
    with virtstore.connect(config=str(config)) as strict:
        image = strict.image(str(path))
        for change in (partial(image.growfs), partial(image.resize, "400M")):
            with pytest.raises(virtstore.Denied, match="mount_guest_filesystems = true") as denied:
                change()
            assert str(config) in str(denied.value)
    assert path.stat().st_size == MADE + 16 * MIB
    whole(path, kind, 0, files)
