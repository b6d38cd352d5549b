"""Evidence: whoever has an image is found by looking, and whoever has not is not accused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtstore.agent.in_use import Scan
from virtstore.errors import InUse as InUseError
from virtstore.model import InUse

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices and mounts")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "x.img"
    path.write_bytes(bytes(1 << 20))
    return path


def uses(path: Path) -> tuple[InUse, ...]:
    status = path.stat()
    return Scan().of((status.st_dev, status.st_ino))


def refused(path: Path, *, writers_only: bool = False) -> str | None:
    """What the refusal says, or None where nobody is in the way."""
    status = path.stat()
    try:
        Scan().refuse((status.st_dev, status.st_ino), writers_only=writers_only)
    except InUseError as error:
        return error.message
    return None


@contextmanager
def child(code: str, path: Path) -> Iterator[int]:
    """A process that runs `code` with the image's path, says so, and waits."""
    program = f"import os, sys, fcntl, struct\npath = sys.argv[1]\n{code}\nprint(1, flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program + "sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdin
    try:
        assert process.stdout.readline() == b"1\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_an_image_that_nobody_has_is_free(image: Path) -> None:
    assert uses(image) == ()
    assert refused(image) is None


def test_what_we_have_open_ourselves_is_no_evidence(image: Path) -> None:
    with image.open("r+b"):
        assert uses(image) == ()


def test_a_process_that_reads_is_named_but_is_no_writer(image: Path) -> None:
    with child("file = os.open(path, os.O_RDONLY)", image) as pid:
        [use] = uses(image)
        assert use.by == "process"
        assert f"(pid {pid})" in use.detail
        assert str(pid) in (refused(image) or "")
        assert refused(image, writers_only=True) is None
    assert refused(image) is None


@pytest.mark.parametrize("mode", ["os.O_WRONLY", "os.O_RDWR", "os.O_RDWR | os.O_APPEND"])
def test_a_process_that_may_write_is_a_writer(image: Path, mode: str) -> None:
    with child(f"file = os.open(path, {mode})", image) as pid:
        assert f"(pid {pid})" in (refused(image, writers_only=True) or "")


def test_an_image_is_known_by_what_it_is_and_not_by_its_name(image: Path) -> None:
    with child("file = os.open(path, os.O_RDWR)", image):
        moved = image.rename(image.with_name("renamed.img"))
        image.write_bytes(b"another image of the old name")
        assert refused(moved)
        assert refused(image) is None


def test_a_process_that_only_holds_a_path_is_no_user(image: Path) -> None:
    with child("file = os.open(path, os.O_PATH)", image):
        assert uses(image) == ()


_LOCK = (
    "file = os.open(path, os.O_RDWR)\n"
    "lock = struct.pack('hhqqi4x', {kind}, os.SEEK_SET, {start}, {length}, 0)\n"
    "fcntl.fcntl(file, 37, lock)\n"  # F_OFD_SETLK
)


@pytest.mark.parametrize("start", [100, 103, 200, 203])
def test_the_bytes_that_qemu_locks_are_evidence(image: Path, start: int) -> None:
    with child(_LOCK.format(kind="fcntl.F_RDLCK", start=start, length=1), image):
        assert {use.by for use in uses(image)} == {"process", "qemu-lock"}
        assert "qemu-lock" in (refused(image, writers_only=True) or "")


@pytest.mark.parametrize("start", [0, 99, 300])
def test_other_locked_bytes_are_not_qemus(image: Path, start: int) -> None:
    with child(_LOCK.format(kind="fcntl.F_WRLCK", start=start, length=1), image):
        assert {use.by for use in uses(image)} == {"process"}


def test_a_lock_of_another_kind_on_the_same_bytes_is_not_qemus(image: Path) -> None:
    code = "file = os.open(path, os.O_RDWR)\nfcntl.lockf(file, fcntl.LOCK_EX, 1, 100)"
    with child(code, image):
        assert {use.by for use in uses(image)} == {"process"}


@contextmanager
def looped(image: Path, *options: str) -> Iterator[str]:
    argv = ["losetup", "--find", "--show", *options, str(image)]
    device = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@AS_ROOT
def test_a_loop_device_is_a_writer_unless_it_is_read_only(image: Path) -> None:
    with looped(image) as device:
        assert uses(image) == (InUse("loop", device),)
        assert device in (refused(image, writers_only=True) or "")
    with looped(image, "--read-only") as device:
        assert device in (refused(image) or "")
        assert refused(image, writers_only=True) is None
    assert uses(image) == ()


@AS_ROOT
def test_a_mounted_image_is_found_with_its_mount_point(image: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    (point := tmp_path / "mounted").mkdir()
    with looped(image, "--read-only") as device:
        subprocess.run(["mount", "-o", "ro,noload", device, str(point)], check=True)
        try:
            assert InUse("mount", f"{point} (by {device})") in uses(image)
        finally:
            subprocess.run(["umount", str(point)], check=True)
    # What holds afterwards is not asserted here: whoever made a mount namespace meanwhile
    # (other tests do) still has the mount in it, and the scan is right to say so.


_MOUNTED_ELSEWHERE = """
import subprocess, sys
subprocess.run(["mount", "-o", "ro,noload", sys.argv[1], sys.argv[2]], check=True)
print("mounted", flush=True)
sys.stdin.read()
"""


@AS_ROOT
def test_a_mount_in_another_namespace_is_found(image: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    (point := tmp_path / "mounted").mkdir()
    with looped(image) as device:
        argv = ["unshare", "-m", sys.executable, "-c", _MOUNTED_ELSEWHERE, device, str(point)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout
            assert holder.stdin
            assert holder.stdout.readline() == b"mounted\n"
            assert not os.path.ismount(point)
            found = uses(image)
            holder.stdin.close()
        assert InUse("mount", f"{point} (by {device})") in found
        assert {use.by for use in uses(image)} == {"loop"}


def test_udev_which_looks_at_a_new_device_is_told_from_those_who_stay(image: Path) -> None:
    rename = "open('/proc/self/comm', 'w').write('(udev-worker)')\n"
    status = image.stat()
    identity = (status.st_dev, status.st_ino)
    with child(rename + "file = os.open(path, os.O_RDONLY)", image):
        assert Scan().is_passing(identity)
        with child("file = os.open(path, os.O_RDONLY)", image):
            assert not Scan().is_passing(identity)
    with child(rename + "file = os.open(path, os.O_RDWR)", image):
        assert not Scan().is_passing(identity)
    assert not Scan().is_passing(identity)
