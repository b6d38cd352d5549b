"""Evidence: whoever has an image is found by looking, and whoever has not is not accused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtstore.agent import locks, processes
from virtstore.agent.evidence import Scan, Uses, kernel
from virtstore.agent.evidence.kernel import relatives
from virtstore.backends.base import Identity
from virtstore.backends.files.file import FileImage
from virtstore.errors import InUse as InUseError
from virtstore.model import InUse

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices and mounts")


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that a test starts are not taken for tools of its own."""
    monkeypatch.setattr(processes, "ancestry", lambda process: iter([process]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "x.img"
    path.write_bytes(bytes(1 << 20))
    return path


class Opened(FileImage):
    """A file or a block device."""

    @property
    def identity(self) -> Identity:
        return processes.identity_of(os.fstat(self._fd))


def seen(path: Path) -> Uses:
    with Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as image:
        return Scan().of(image)


def uses(path: Path) -> tuple[InUse, ...]:
    return seen(path).shown


def refused(path: Path, *, writers_only: bool = False) -> str | None:
    """What the refusal says, or None where nobody is in the way."""
    try:
        seen(path).refuse(writers_only=writers_only)
    except InUseError as error:
        return error.message
    return None


@contextmanager
def child(code: str, path: Path, called: str = sys.executable) -> Iterator[int]:
    """A process that runs `code` with the image's path, says so, and waits. `called`: its first
    word."""
    program = f"import os, sys, fcntl, struct\npath = sys.argv[1]\n{code}\nprint(1, flush=True)\n"
    process = subprocess.Popen(
        [called, "-c", program + "sys.stdin.read()", str(path)],
        executable=sys.executable,
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


@pytest.mark.parametrize(
    ("start", "length", "writes"),
    [(100, 1, False), (100, 2, True), (103, 0, True), (200, 4, False), (99, 1, False)],
)
def test_the_bytes_that_qemu_locks_are_evidence_and_tell_if_it_may_write(
    image: Path, start: int, length: int, writes: bool
) -> None:
    code = _LOCK.format(kind="fcntl.F_RDLCK", start=start, length=length)
    with child(code.replace("O_RDWR", "O_RDONLY"), image):
        locked = start > 99
        assert {use.by for use in uses(image)} == {"process", *["qemu-lock"] * locked}
        assert ("qemu-lock" in (refused(image) or "")) == locked
        assert ("qemu-lock" in (refused(image, writers_only=True) or "")) == writes


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


_LOOPED_ELSEWHERE = """
mount --bind "$1" "$2" && losetup --find --show "$2/x.img" && read -r _
"""


@AS_ROOT
def test_a_loop_device_on_a_path_that_only_another_namespace_has_is_found(
    image: Path, tmp_path: Path
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    argv = ["unshare", "-m", "sh", "-c", _LOOPED_ELSEWHERE, "sh", str(image.parent), str(elsewhere)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdin
        device = holder.stdout.readline().strip()
        try:
            backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text().strip()
            assert not Path(backing).exists()
            found = uses(image)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)
            holder.stdin.close()
    assert InUse("loop", device) in found


def test_udev_which_looks_at_a_new_device_is_told_from_those_who_stay(image: Path) -> None:
    rename = "open('/proc/self/comm', 'w').write('(udev-worker)')\n"
    with child(rename + "file = os.open(path, os.O_RDONLY)", image):
        assert seen(image).passing
        assert seen(image).users == frozenset()
        with child("file = os.open(path, os.O_RDONLY)", image):
            assert not seen(image).passing
    with child(rename + "file = os.open(path, os.O_RDWR)", image):
        assert not seen(image).passing
    assert not seen(image).passing


READING = "file = os.open(path, os.O_RDONLY)"


def test_a_tool_that_this_agent_started_is_shown_and_does_not_count(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with child("file = os.open(path, os.O_RDWR)", image) as pid:
        [use] = uses(image)
        assert f"(pid {pid})" in use.detail
        assert refused(image) is None
        assert not seen(image).in_use


def test_an_agent_that_only_looks_is_shown_and_does_not_count(image: Path) -> None:
    with child(READING, image, "virtstore-agent") as pid:
        assert f"(pid {pid})" in uses(image)[0].detail
        assert refused(image) is None


def test_an_agent_that_holds_a_lock_or_writes_counts(image: Path) -> None:
    with locks.hold("any"):
        [file] = locks.files()
    for code in (
        f"{READING}; lock = os.open({file!r}, os.O_RDWR)",
        READING.replace("RDONLY", "RDWR"),
    ):
        with child(code, image, "virtstore-agent") as pid:
            assert f"(pid {pid})" in (refused(image) or "")


@AS_ROOT
def test_a_process_of_another_user_that_calls_itself_an_agent_counts(image: Path) -> None:
    with child(f"{READING}; os.setuid(65534)", image, "virtstore-agent") as pid:
        assert f"(pid {pid})" in (refused(image) or "")


@pytest.mark.parametrize(
    ("words", "agent"),
    [
        ("virtstore-agent", True),
        ("/opt/v/bin/python3.11 /opt/v/bin/virtstore-agent --access read", True),
        ("python3 -X utf8 -P -m virtstore.agent", True),
        ("/usr/bin/python3 -X utf8 /usr/bin/virtstore-agent", True),
        ("qemu-system-x86_64 -name virtstore-agent", False),
        ("vi virtstore-agent", False),
        ("python3 -m virtstore.agents", False),
        ("python3 x.py -m virtstore.agent", False),
    ],
)
def test_an_agent_is_known_by_how_it_was_started(
    words: str, agent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cmdline = "".join(f"{word}\0" for word in words.split())
    status = "Uid:\t" + "\t".join([str(os.geteuid())] * 4) + "\n"
    monkeypatch.setattr(
        processes, "read", lambda path: cmdline if path.endswith("cmdline") else status
    )
    assert processes.is_agent(1) == agent


def test_of_files_that_nobody_asks_about_no_more_is_read_than_what_they_are(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "files = [os.open(sys.executable, os.O_RDONLY) for _ in range(200)]"
    looked_at: list[processes.Descriptor] = []
    flags = processes.Descriptor.flags

    def counted(descriptor: processes.Descriptor) -> int:
        looked_at.append(descriptor)
        return flags(descriptor)

    monkeypatch.setattr(processes.Descriptor, "flags", counted)
    with child(f"{many}; {READING}", image) as pid:
        assert uses(image)
    assert [d.process for d in looked_at if d.process != os.getpid()] == [pid]


def block_devices(sysfs: Path) -> str:
    """A disk, 8:0, with partitions 1 and 5 (8:1, 8:5), as sysfs shows them, beside another."""
    devices = {
        "sda": "8:0",
        "sda/sda1": "8:1",
        "sda/sda5": "8:5",
        "sdb": "8:16",
        "sdb/sdb1": "8:17",
    }
    (sysfs / "numbers").mkdir()
    for name, number in devices.items():
        (place := sysfs / "block" / name).mkdir(parents=True)
        (place / "dev").write_text(f"{number}\n")
        if "/" in name:
            (place / "partition").write_text(f"{name[-1]}\n")
        (sysfs / "numbers" / number).symlink_to(place)
    return str(sysfs / "numbers")


def test_a_disk_is_used_where_a_partition_of_it_is_and_the_other_way_round(tmp_path: Path) -> None:
    sysfs = block_devices(tmp_path)
    assert sorted(relatives((os.makedev(8, 0), 0), sysfs)) == [
        ((os.makedev(8, 1), 0), "its partition 1"),
        ((os.makedev(8, 5), 0), "its partition 5"),
    ]
    for minor in (1, 5):
        [(disk, what)] = relatives((os.makedev(8, minor), 0), sysfs)
        assert (disk, what) == ((os.makedev(8, 0), 0), "the disk of this partition")


def test_neither_a_file_nor_a_device_that_is_gone_has_partitions(tmp_path: Path) -> None:
    sysfs = block_devices(tmp_path)
    assert list(relatives((os.makedev(8, 0), 12), sysfs)) == []
    assert list(relatives((os.makedev(9, 9), 0), sysfs)) == []


def test_the_use_of_a_partition_counts_for_its_disk(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = image.with_name("disk.img")
    disk.touch()
    status = image.stat()
    related = [((status.st_dev, status.st_ino), "its partition 2")]
    monkeypatch.setattr(kernel, "relatives", lambda identity: related)
    with child(READING, image) as pid:
        assert f"(pid {pid}) (its partition 2)" in (refused(disk) or "")


@AS_ROOT
def test_the_devices_of_a_mounted_btrfs_are_in_use(tmp_path: Path) -> None:
    files = [tmp_path / "one.img", tmp_path / "two.img"]
    for file in files:
        with file.open("wb") as made:
            made.truncate(128 << 20)
    (point := tmp_path / "mounted").mkdir()
    with looped(files[0]) as one, looped(files[1]) as two:
        subprocess.run(["mkfs.btrfs", "-q", one, two], check=True)
        subprocess.run(["mount", "-o", f"device={one},device={two}", one, point], check=True)
        try:
            found = {each: [use.detail for use in uses(Path(each))] for each in (one, two)}
        finally:
            subprocess.run(["umount", str(point)], check=True)
    details = sorted(found[one] + found[two])
    assert str(point) in details
    assert any(detail.startswith("of the Btrfs ") for detail in details)
    assert all(found.values())
