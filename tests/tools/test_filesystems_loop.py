"""Loop devices show the right bytes, and none is left behind whoever is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import PATIENCE

from virtstore.errors import Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.loop import attached

MIB = 1 << 20
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices")


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Device]:
    """Three MiB: of 1, of 2, of 3."""
    path = tmp_path / "image"
    path.write_bytes(b"".join(bytes([n]) * MIB for n in (1, 2, 3)))
    with path.open("r+b") as file:
        yield Device(file.fileno(), 3 * MIB)


def _devices_on(image: Device) -> list[str]:
    """The loop devices that show this file, as the kernel tells."""
    inode = os.fstat(image.fd).st_ino
    argv = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-INO"]
    lines = subprocess.run(argv, capture_output=True, check=True, text=True).stdout.splitlines()
    return [name for name, number in map(str.split, lines) if int(number) == inode]


def _gone(image: Device) -> bool:
    """Whether none is left: udev, which looks at each device that is closed, may delay that."""
    deadline = time.monotonic() + PATIENCE
    while _devices_on(image) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _devices_on(image)


@AS_ROOT
def test_a_partition_is_shown_from_its_first_byte_to_its_last_and_no_further(
    image: Device,
) -> None:
    with attached(image.part(MIB, MIB)) as lent:
        assert (lent.start, lent.size) == (0, MIB)
        assert os.lseek(lent.fd, 0, os.SEEK_END) == MIB
        assert lent.read(0, 2 * MIB) == b"\x02" * MIB
        os.pwrite(lent.fd, b"\x09" * 4096, MIB - 4096)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.pwrite(lent.fd, b"\x09" * 4096, MIB)
    assert image.read(0, MIB) == b"\x01" * MIB
    assert image.read(2 * MIB - 4096, 4097) == b"\x09" * 4096 + b"\x03"
    assert image.read(2 * MIB, MIB) == b"\x03" * MIB


@AS_ROOT
def test_what_is_lent_for_reading_cannot_be_written(image: Device) -> None:
    with attached(image, writable=False) as lent:
        assert lent.read(0, 1) == b"\x01"
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.pwrite(lent.fd, b"x", 0)
        with pytest.raises(PermissionError), open(lent.path, "r+b", buffering=0) as again:
            again.write(b"x")  # a tool opens it anew, which not every kernel refuses
    assert image.read(0, 1) == b"\x01"


@AS_ROOT
def test_an_image_open_for_reading_is_lent_for_reading(image: Device) -> None:
    fd = os.open(image.path, os.O_RDONLY)
    try:
        with attached(Device(fd, MIB), writable=False) as lent:
            assert lent.read(0, 1) == b"\x01"
    finally:
        os.close(fd)


@AS_ROOT
def test_the_lock_goes_with_the_device_for_a_tool_that_outlives_us(image: Device) -> None:
    with attached(Device(image.fd, MIB, lock=77)) as lent:
        assert lent.pass_fds == (lent.fd, 77)


@AS_ROOT
def test_none_is_left_when_it_is_given_back_or_an_error_flies_by(image: Device) -> None:
    with attached(image):
        assert len(_devices_on(image)) == 1
    assert _gone(image)
    with pytest.raises(ZeroDivisionError), attached(image):
        raise ZeroDivisionError
    assert _gone(image)


HOLDER = """
import os, sys, time
from virtstore.filesystems.base import Device
from virtstore.filesystems.loop import attached
with attached(Device(os.open(sys.argv[1], os.O_RDWR), 1 << 20)) as lent:
    if sys.argv[2] == "lend":
        os.set_inheritable(lent.fd, True)
        if os.fork() == 0:
            os.setsid()
            time.sleep(1)
            os._exit(0)
    print("attached", flush=True)
    time.sleep(60)
"""


@AS_ROOT
@pytest.mark.parametrize("lend", ["lend", "keep"])
def test_none_is_left_by_a_holder_that_is_killed_once_its_tool_has_ended(
    image: Device, lend: str
) -> None:
    argv = [sys.executable, "-c", HOLDER, os.readlink(image.path), lend]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"attached\n"
        assert len(_devices_on(image)) == 1
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (lend == "keep") or len(_devices_on(image)) == 1
    assert _gone(image)


ORDINARY = """
import os, sys
from virtstore.errors import Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.loop import attached
try:
    with attached(Device(int(sys.argv[1]), 1 << 20)):
        print("attached")
except Unsupported as error:
    print(error.message)
"""


def test_an_ordinary_user_is_told_that_it_takes_root(image: Device) -> None:
    if os.geteuid() != 0:
        with pytest.raises(Unsupported, match="run the agent as root"), attached(image):
            pass
        return
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv += [sys.executable, "-c", ORDINARY, str(image.fd)]
    said = subprocess.run(argv, pass_fds=[image.fd], capture_output=True, check=True, text=True)
    assert "run the agent as root" in said.stdout
    assert _devices_on(image) == []
