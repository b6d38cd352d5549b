"""Our readers of file systems, held against what real kernels and drivers wrote, which only root
may have mounted; and the logical volumes that LVM itself laid out."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.tools.ext_images import tool
from tests.tools.file_trees import MIB, File, Held, differing, everything, image, reader, told, tree
from tests.tools.resize_images import configuration, write_configuration
from tests.tools.test_reading_files import read_all

import virtstore
from virtstore.filesystems.base import Device
from virtstore.filesystems.loop import attached
from virtstore.filesystems.reading.base import Window
from virtstore.filesystems.reading.lvm import Volume, volumes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")

#: How each is made, and mounted. A driver that is a process stays one of the shell's.
MADE = {
    "xfs": ("mkfs.xfs -q IMAGE", "mount -o loop IMAGE HERE"),
    "btrfs": ("mkfs.btrfs -q IMAGE", "mount -o loop,compress-force=zstd IMAGE HERE"),
    "btrfs-zlib": ("mkfs.btrfs -q IMAGE", "mount -o loop,compress-force=zlib IMAGE HERE"),
    "btrfs-lzo": ("mkfs.btrfs -q IMAGE", "mount -o loop,compress-force=lzo IMAGE HERE"),
    "ntfs": ("mkfs.ntfs -q -Q -F IMAGE", "ntfs-3g -o no_detach IMAGE HERE &"),
    "ntfs-compressed": (
        *("mkfs.ntfs -q -Q -F IMAGE", "ntfs-3g -o no_detach,compression IMAGE HERE &"),
    ),
}
#: Mounts in a namespace of its own: one that another program's namespace had, too, would still be
#: mounted, and not wholly written, after it was unmounted here.
_HOLD = """{mount}
until mountpoint -q {here}; do sleep 0.05; done
echo mounted
read -r _ || true
umount {here}
wait"""


@contextmanager
def mounted(path: Path, kind: str) -> Iterator[Path]:
    """A new file system, mounted while this is open."""
    here = path.with_name("here")
    here.mkdir()
    path.touch()
    os.truncate(path, 320 * MIB)
    make, mount = (c.replace("IMAGE", str(path)).replace("HERE", str(here)) for c in MADE[kind])
    tool(*make.split())
    argv = ["unshare", "--mount", "sh", "-ec", _HOLD.format(mount=mount, here=here)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        assert shell.stdout.readline() == b"mounted\n"
        seen = Path(f"/proc/{shell.pid}/root{here}")
        if kind == "ntfs-compressed":
            os.setxattr(seen, "system.ntfs_attrib", (0x810).to_bytes(4, "little"))
        yield seen
        shell.communicate(b"\n")


def filled(here: Path, kind: str) -> dict[bytes, bytes | None]:
    """Put files there that have more parts, and are more, than is easily described."""
    tree(here, odd=not kind.startswith("ntfs"))
    with (here / "torn").open("wb") as file:
        for at in range(1500):
            file.seek(at * 20000)
            file.write(b"%d" % at)
    text = b"".join(b"%d\n" % number for number in range(200_000))
    (here / "text").write_bytes(text)
    (here / "mixed").write_bytes(bytes(100_000) + text[:70_000] + os.urandom(200_000) + bytes(9))
    if not kind.startswith("ntfs"):
        (here / "far").symlink_to("/" + "d/" * 450 + "x")
    return told(here)


@pytest.mark.parametrize("kind", sorted(MADE))
def test_what_a_real_driver_wrote_is_read_byte_for_byte(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    with mounted(path, kind) as here:
        there = filled(here, kind)
    found = reader(path, kind)
    assert found.notes == ()
    assert differing(everything(found), there) == []


def test_subvolumes_and_snapshots_are_directories(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with mounted(path, "btrfs") as here:
        tool("btrfs", "subvolume", "create", str(here / "home"))
        (here / "home/f").write_text("old")
        tool("btrfs", "subvolume", "snapshot", str(here / "home"), str(here / "then"))
        (here / "home/f").write_text("new")
    assert everything(reader(path, "btrfs")) == {b"home/f": b"new", b"then/f": b"old"}


def test_an_xfs_that_was_not_unmounted_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with mounted(path, "xfs") as here:
        (here / "f").write_text("x")
        tool("sync", "-f", str(here))
        caught = tmp_path / "caught"
        caught.write_bytes(path.read_bytes())
    assert "not replayed" in reader(caught, "xfs").notes[0]


def test_no_damage_makes_the_reader_of_ntfs_fail_otherwise_or_read_without_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "image"
    with mounted(path, "ntfs-compressed") as here:
        (here / "d/e").mkdir(parents=True)
        (here / "d/e/f").write_bytes(b"abc" * 30000)
        for number in range(100):
            (here / f"d/a file of some length {number}").write_bytes(b"%d" % number)
    held, seeded = Held(path), random.Random(16)
    for _ in range(100):
        read_all(held.damaged(seeded), "ntfs")


# Logical volumes --------------------------------------------------------------------------

_EXTENT = 4 * MIB
_SIZE = 200 * MIB


def laid_out(path: Path) -> dict[str, Volume]:
    """Logical volumes on two physical ones that are side by side in an image, by their names."""
    with path.open("wb") as file:
        file.truncate(2 * _SIZE)
    with path.open("r+b") as file:
        whole = Device(file.fileno(), 2 * _SIZE)
        with attached(whole.part(0, _SIZE)) as one, attached(whole.part(_SIZE, _SIZE)) as other:
            devices = [os.readlink(f"/proc/self/fd/{each.fd}") for each in (one, other)]
            lvm("pvcreate", devices, "-ff", "-y", *devices)
            lvm("vgcreate", devices, "-y", "-s", "4M", "guest", *devices)
            for words in ("-L 64M -n root", "-i 2 -L 80M -n striped", "-l 100%FREE -n rest"):
                make = ("-y", "-an", "-Zn", "-Wn", "--driverloaded", "n")
                lvm("lvcreate", devices, *make, *words.split(), "guest")
    disk = File(path)
    windows = [Window(disk, start, _SIZE) for start in (0, _SIZE)]
    return {each.name: each for each in volumes(windows)}


def lvm(command: str, devices: list[str], *words: str) -> None:
    """Run LVM on these devices alone, with nothing of the host's."""
    only = ", ".join(f'"a|^{device}$|"' for device in devices)
    config = (
        f'devices {{ filter=[{only}, "r|.*|"] use_devicesfile=0 }}'
        " activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }"
    )
    argv = ["/usr/sbin/lvm", command, "--config", config, *words]
    env = {**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1", "LVM_SYSTEM_DIR": ""}
    subprocess.run(argv, check=True, capture_output=True, env=env)


def test_logical_volumes_within_an_image_are_found_where_lvm_laid_them(tmp_path: Path) -> None:
    path = tmp_path / "image"
    found = laid_out(path)
    assert {name: each.size for name, each in found.items()} == {
        "guest/root": 64 * MIB,
        "guest/striped": 80 * MIB,
        "guest/rest": 2 * (_SIZE - _EXTENT) - 144 * MIB,
    }
    assert {each.trouble for each in found.values()} == {""}
    # The first is at the start of the first physical volume, and the second goes from one to the
    # other every 64 KiB: the end of the first on the one, the start of the second on the other.
    with path.open("r+b") as file:
        for at, text in (
            (MIB, b"root"),
            (MIB + 64 * MIB, b"stripe 0"),
            (_SIZE + MIB, b"stripe 1"),
            (MIB + 64 * MIB + 65536, b"stripe 2"),
        ):
            file.seek(at)
            file.write(text)
    assert found["guest/root"].read_at(0, 4) == b"root"
    striped = found["guest/striped"]
    assert [striped.read_at(n * 65536, 8) for n in range(3)] == [b"stripe %d" % n for n in range(3)]
    assert len(striped.read_at(striped.size - 10, 100)) == 10


def test_a_volume_of_which_a_part_is_on_another_disk_is_named_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "image"
    laid_out(path)
    (alone,) = [{each.name: each for each in volumes([Window(File(path), 0, _SIZE)])}]
    assert alone["guest/striped"].trouble == "a part of it is on another disk"
    assert alone["guest/root"].trouble == ""


def test_damaged_metadata_of_lvm_have_no_volumes(tmp_path: Path) -> None:
    path = tmp_path / "image"
    laid_out(path)
    held, seeded = Held(path), random.Random(16)
    for _ in range(200):
        disk = held.damaged(seeded)
        volumes([Window(disk, start, _SIZE) for start in (0, _SIZE)])


def test_files_of_a_logical_volume_are_listed_by_its_name_or_for_its_size(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    write_configuration(root)
    path = root / "disk.img"
    laid_out(path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/hello").write_text("hello")
    made = image(tmp_path / "made", "ext4", tmp_path / "tree").read_bytes()
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(made)
    # blkid names what is at the start of an image: so the first physical volume is all of one.
    os.truncate(path, _SIZE)
    with virtstore.connect(config=str(configuration(root))) as host:
        disk = host.image(str(path))
        found = disk.files()
        assert [each.path for each in found] == ["/hello", "/lost+found"]
        assert (found.filesystem, found.volume) == ("ext4", "guest/root")
        assert b"".join(disk.read_file("hello", volume="root")) == b"hello"
        with pytest.raises(virtstore.NotFound, match="it has guest/"):
            disk.files(volume="nowhere")
        with pytest.raises(virtstore.Unsupported, match="a part of it is on another disk"):
            disk.files(volume="guest/striped")
