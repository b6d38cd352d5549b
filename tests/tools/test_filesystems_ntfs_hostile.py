"""NTFS volumes that are damaged, and resizes that are killed: whole or refused, never cut."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from virtstore.errors import Error
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.detect import detect, end_of_contents
from virtstore.filesystems.ntfs import Ntfs
from virtstore.filesystems.ntfsvolume import read_volume
from virtstore.programs import find

MIB = 1 << 20
MADE, IMAGE = 16 * MIB, 24 * MIB
LARGEST = 60_000  # bytes of a file
TORTURE = "VIRTSTORE_TORTURE" in os.environ
VARIANTS, KILLS = (500, 50) if TORTURE else (20, 5)


def _tool(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    return subprocess.run([program, *argv[1:]], capture_output=True, check=check)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    seeded = random.Random(5)
    return {f"f{i}": seeded.randbytes(seeded.randrange(LARGEST)) for i in range(100)}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "image"
    with path.open("wb") as image:
        image.truncate(MADE)
    _tool("mkntfs", "-F", "-f", "-q", str(path))
    one = path.with_name("one")
    for name, contents in files.items():
        one.write_bytes(contents)
        _tool("ntfscp", "-q", str(path), str(one), f"/{name}")
    return path


def _readable(image: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files that can be read, of those that should be there."""
    said = {name: _contents(image, name) for name in names}
    return {name: contents for name, contents in said.items() if contents is not None}


def _contents(image: Path, name: str) -> bytes | None:
    """None also where it is endless: a damaged size may say so, and ntfscat believes it."""
    argv = [find("ntfscat") or "", "-f", str(image), f"/{name}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=quiet, bufsize=0) as ntfscat:
        assert ntfscat.stdout
        with ntfscat.stdout as output:
            contents = b""
            while len(contents) <= LARGEST and (more := output.read(LARGEST)):
                contents += more
        return contents if ntfscat.wait() == 0 else None


def _is_clean(image: Path) -> bool:
    said = _tool("ntfsresize", "--info", "--force", str(image), check=False)
    return said.returncode == 0 or b"Volume is full" in said.stdout


def _damage(path: Path, seed: int) -> None:
    """In the boot sector, in the file table's records, or anywhere in the metadata."""
    seeded = random.Random(seed)
    image = bytearray(path.read_bytes())
    table = int.from_bytes(image[0x30:0x38], "little") * 4096
    first, last = ((0, 96), (table, table + (24 << 10)), (table, table + (128 << 10)))[seed % 3]
    for _ in range(seeded.choice((1, 2, 8, 64))):
        image[seeded.randrange(first, last)] = seeded.randrange(256)
    path.write_bytes(image)


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_a_damaged_volume_is_answered_for_and_resized_whole_or_refused_untouched(
    tmp_path: Path, pristine: Path, seed: int
) -> None:
    path = tmp_path / "image"
    shutil.copyfile(pristine, path)
    _damage(path, seed)
    names = [f"f{i}" for i in range(seed % 12, 100, 12)]
    before = _readable(path, names)
    with path.open("r+b") as image:
        image.truncate(IMAGE)
        device = Device(image.fileno(), IMAGE)
        end = end_of_contents(detect(device))
        assert end is None or end >= 0
        minimum = Ntfs().minimum(device)
        assert minimum is None or minimum > 0
        for step in (Ntfs().grow, lambda device: Ntfs().shrink(device, None)):
            if _resized_or_untouched(step, device):
                volume = read_volume(device)
                assert volume
                assert volume.size <= IMAGE
                assert _is_clean(path)
        assert path.stat().st_size == IMAGE
    assert before.items() <= _readable(path, names).items()


def _resized_or_untouched(step: Callable[[Device], Resized], device: Device) -> bool:
    before = _fingerprint(device)
    try:
        return step(device).changed
    except Error:
        assert _fingerprint(device) == before
        return False


def _fingerprint(device: Device) -> str:
    return hashlib.sha256(device.read(0, device.size)).hexdigest()


def test_the_variants_are_neither_all_refused_nor_all_resized(
    tmp_path: Path, pristine: Path
) -> None:
    outcomes = set()
    for seed in range(9):
        path = tmp_path / "image"
        shutil.copyfile(pristine, path)
        _damage(path, seed)
        with path.open("r+b") as image:
            image.truncate(IMAGE)
            outcomes.add(_resized_or_untouched(Ntfs().grow, Device(image.fileno(), IMAGE)))
    assert outcomes == {True, False}


VICTIM = """
import fcntl, os, sys
from virtstore.filesystems.base import Device
from virtstore.filesystems.ntfs import Ntfs
fd, lock = (os.open(path, os.O_RDWR) for path in sys.argv[1:3])
fcntl.flock(lock, fcntl.LOCK_EX)
print("started", flush=True)
Ntfs().shrink(Device(fd, os.fstat(fd).st_size, lock=lock), None)
"""


def test_a_shrink_that_is_killed_loses_nothing_and_the_same_command_finishes_it(
    pristine: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    path, lock = tmp_path / "image", tmp_path / "lock"
    lock.touch()
    with _shrinking(pristine, path, lock) as whole:
        begun = time.monotonic()
        assert whole.wait() == 0
        duration = time.monotonic() - begun
    moments = random.Random(1)
    hit = 0
    for number in range(KILLS):
        with _shrinking(pristine, path, lock) as victim:
            time.sleep(moments.uniform(0, duration))
            hit += victim.poll() is None
            victim.send_signal(signal.SIGKILL)
        with path.open("r+b") as image, lock.open("r+b") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # a tool that goes on without us has it
            device = Device(image.fileno(), MADE)
            assert Ntfs().shrink(device, None).size < MADE
            assert not Ntfs().shrink(device, None).changed
            assert _is_clean(path)
        some = {name: files[name] for name in list(files)[number % 5 :: 5]}
        assert _readable(path, some) == some
    assert hit, f"no moment of {duration:.1f} s was early enough"


def _shrinking(pristine: Path, path: Path, lock: Path) -> subprocess.Popen[bytes]:
    shutil.copyfile(pristine, path)
    argv = [sys.executable, "-c", VICTIM, str(path), str(lock)]
    victim = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert victim.stdout
    assert victim.stdout.readline() == b"started\n"
    return victim
