"""Real NTFS volumes are resized with every file in them intact, or are refused untouched."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Unsafe, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.detect import detect
from virtstore.filesystems.ntfs import Ntfs
from virtstore.filesystems.ntfsvolume import read_volume
from virtstore.programs import find

MIB = 1 << 20
MADE, IMAGE = 32 * MIB, 64 * MIB
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices")
Open = Callable[..., Device]


def _tool(*argv: str) -> bytes:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    return subprocess.run([program, *argv[1:]], capture_output=True, check=True).stdout


def _mkntfs(path: Path, *options: str, size: int = MADE) -> Path:
    with path.open("wb") as image:
        image.truncate(size)
    _tool("mkntfs", "-F", "-f", "-q", "-L", "windows", *options, str(path))
    return path


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Small ones live in the file table, the others in clusters."""
    seeded = random.Random(4)
    files = {f"f{i}": seeded.randbytes(seeded.randrange(16_000)) for i in range(1000)}
    return files | {"large": seeded.randbytes(3 * MIB), "empty": b""}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> Path:
    root = tmp_path_factory.mktemp("ntfs")
    _fill(_mkntfs(root / "image"), files)
    return root / "image"


def _fill(image: Path, files: Mapping[str, bytes]) -> None:
    one = image.with_name("one")
    for name, contents in files.items():
        one.write_bytes(contents)
        _tool("ntfscp", "-q", str(image), str(one), f"/{name}")
    one.unlink()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a copy of an image, with room to grow."""
    with ExitStack() as stack:

        def make(source: Path, size: int = IMAGE, before: int = 0, after: int = 0) -> Device:
            path = tmp_path / f"image-{len(list(tmp_path.iterdir()))}"
            path.touch()
            file = stack.enter_context(path.open("r+b"))
            file.write(b"\xaa" * before + source.read_bytes())
            file.truncate(before + size)
            file.seek(0, os.SEEK_END)
            file.write(b"\xaa" * after)
            file.flush()
            return Device(file.fileno(), before + size + after).part(before, size)

        yield make


def _fingerprint(device: Device) -> str:
    return hashlib.sha256(os.pread(device.fd, device.start + device.size + MIB, 0)).hexdigest()


def _differing(device: Device, files: Mapping[str, bytes], scratch: Path) -> list[str]:
    """The files that are not what they were, in a copy of no more than the volume's bytes."""
    volume = read_volume(device)
    assert volume
    assert volume.size <= device.size
    copy = scratch / "copy"
    copy.write_bytes(device.read(0, volume.size))
    _tool("ntfsresize", "--check", str(copy))
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: _tool("ntfscat", "-f", str(copy), f"/{name}"), files)
        return [
            name for name, contents in zip(files, found, strict=True) if contents != files[name]
        ]


def _is_clean(device: Device, scratch: Path) -> bool:
    copy = scratch / "copy"
    copy.write_bytes(device.read(0, device.size))
    said = subprocess.run(
        [find("ntfsresize") or "", "--info", "--force", str(copy)], capture_output=True
    )
    return said.returncode == 0 or b"Volume is full" in said.stdout


@pytest.mark.parametrize(
    ("before", "after"), [(0, 0), pytest.param(MIB, MIB, marks=AS_ROOT)], ids=["bare", "partition"]
)
def test_every_file_is_whole_after_growing_shrinking_to_the_minimum_and_growing(
    opened: Open, filled: Path, files: dict[str, bytes], tmp_path: Path, before: int, after: int
) -> None:
    device = opened(filled, before=before, after=after)
    named = detect(device).filesystem if not before else None
    assert Ntfs().grow(device) == Resized(IMAGE - 4096 + 512, changed=True)
    assert _is_clean(device, tmp_path)
    assert _differing(device, files, tmp_path) == []

    minimum = Ntfs().minimum(device)
    assert minimum
    shrunk = Ntfs().shrink(device, None)
    assert sum(map(len, files.values())) < shrunk.size <= minimum < MADE
    assert _is_clean(device, tmp_path)
    assert _differing(device, files, tmp_path) == []

    os.pwrite(device.fd, bytes(IMAGE - shrunk.size), device.start + shrunk.size)  # cut, and grown
    assert Ntfs().grow(device, 40 * MIB + 1) == Resized(40 * MIB - 4096 + 512, changed=True)
    assert _is_clean(device, tmp_path)
    assert _differing(device, files, tmp_path) == []
    assert os.pread(device.fd, before, 0) == b"\xaa" * before
    assert os.pread(device.fd, after, before + IMAGE) == b"\xaa" * after
    if named:
        now = detect(device).filesystem
        assert now
        assert (now.uuid, now.label, now.type) == (named.uuid, "windows", "ntfs")
        assert now.size == 40 * MIB - 4096 + 512


@pytest.mark.parametrize(
    "options", [("-c", "512"), ("-c", "65536"), ("-s", "4096", "-c", "4096"), ("-C",)], ids=" ".join
)
def test_other_cluster_and_sector_sizes_and_compression_are_resized_too(
    opened: Open, files: dict[str, bytes], tmp_path: Path, options: tuple[str, ...]
) -> None:
    some = dict(list(files.items())[-40:])
    image = _mkntfs(tmp_path / "made", *options)
    _fill(image, some)
    device = opened(image)
    grown = Ntfs().grow(device).size
    assert IMAGE - 2 * 65536 <= grown <= IMAGE
    shrunk = Ntfs().shrink(device, 24 * MIB).size
    assert 24 * MIB - 2 * 65536 <= shrunk <= 24 * MIB
    assert Ntfs().shrink(device, None).changed
    assert _is_clean(device, tmp_path)
    assert _differing(device, some, tmp_path) == []


def test_where_ntfsresizes_mark_cannot_be_told_from_a_guests_it_is_refused(
    opened: Open, tmp_path: Path
) -> None:
    device = opened(_mkntfs(tmp_path / "made", "-c", "512"))
    assert Ntfs().grow(device).changed
    assert Ntfs().shrink(device, MADE) == Resized(MADE, changed=True)
    _refused(device, "marked for a check")


def test_an_end_across_a_piece_that_cannot_be_split_is_refused(
    opened: Open, tmp_path: Path
) -> None:
    device = opened(_mkntfs(tmp_path / "made", "-c", "512"))
    (mirror,) = struct.unpack("<Q", device.read(0x38, 8))
    before = _fingerprint(device)
    with pytest.raises(Unsafe, match="cannot be split"):
        Ntfs().shrink(device, (mirror + 3) * 512)
    assert _fingerprint(device) == before
    assert Ntfs().shrink(device, (mirror + 20) * 512).changed


def test_what_is_as_asked_is_not_written_to(opened: Open, filled: Path) -> None:
    device = opened(filled, size=MADE)
    before = _fingerprint(device)
    for resized in (Ntfs().grow(device), Ntfs().grow(device, MADE), Ntfs().shrink(device, MADE)):
        assert resized == Resized(MADE, changed=False)
    assert _fingerprint(device) == before
    Ntfs().shrink(device, None)
    least = _fingerprint(device)
    assert not Ntfs().shrink(device, None).changed
    assert _fingerprint(device) == least


def test_a_size_that_cannot_be_is_refused_and_the_smallest_that_can_be_is_named(
    opened: Open, filled: Path
) -> None:
    device = opened(filled)
    before = _fingerprint(device)
    with pytest.raises(UsageError, match=str(IMAGE)):
        Ntfs().grow(device, IMAGE + 1)
    with pytest.raises(UsageError, match="shrinkfs"):
        Ntfs().grow(device, MADE - MIB)
    minimum = Ntfs().minimum(device)
    assert minimum
    for size in (minimum - MIB, 4096, 1, 0):
        with pytest.raises(Unsafe, match=f"do not fit; the smallest for it is {minimum} "):
            Ntfs().shrink(device, size)
    assert _fingerprint(device) == before
    assert Ntfs().shrink(device, minimum).changed


def test_whoever_watches_is_told_how_far_the_moving_is(opened: Open, filled: Path) -> None:
    told: list[tuple[int, int]] = []
    Ntfs().shrink(opened(filled), None, lambda done, total: told.append((done, total)))
    assert told[-1] == (10_000, 10_000)


def _refused(device: Device, match: str, kind: type[Exception] = Unsafe) -> None:
    before = _fingerprint(device)
    with pytest.raises(kind, match=match):
        Ntfs().grow(device)
    with pytest.raises(kind, match=match):
        Ntfs().shrink(device, None)
    with pytest.raises(kind, match=match):
        Ntfs().shrink(device, 30 * MIB)
    assert _fingerprint(device) == before


def test_hibernated_windows_is_not_resized_under_its_feet(opened: Open, tmp_path: Path) -> None:
    image = _mkntfs(tmp_path / "made")
    _fill(image, {"hiberfil.sys": b"hibr" + bytes(20_000)})
    _refused(opened(image), "shutdown /s /t 0")


def test_windows_that_was_shut_down_fully_is_resized(opened: Open, tmp_path: Path) -> None:
    image = _mkntfs(tmp_path / "made")
    _fill(image, {"hiberfil.sys": bytes(20_000)})
    assert Ntfs().grow(opened(image)).changed


def _journal(*, flags: int) -> bytes:
    """The restart page of a journal, as Windows writes it: its client is NTFS itself."""
    page = bytearray(4096)
    struct.pack_into("<4sHHQIIHHH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    area = (0, 1, 0xFFFF, 0, flags, 45, 0xE0, 0x40, 2 * MIB, 0, 0x30, 0x40, 1, 0)
    struct.pack_into("<QHHHHIHHqIHHII", page, 48, *area)
    struct.pack_into("<QQHHH6xI8s", page, 48 + 0x40, 0, 0, 0xFFFF, 0xFFFF, 0, 8, b"N\0T\0F\0S\0")
    struct.pack_into("<H", page, 30, 1)
    for end in range(510, 4096, 512):
        struct.pack_into("<H", page, end, 1)
    return bytes(page)


def _write_journal(device: Device, *, flags: int) -> None:
    place = _tool("ntfsinfo", "-f", "-v", "-i", "2", os.readlink(device.path))
    cluster = int(place.rsplit(b"Runlist:")[1].split()[4], 16)
    os.pwrite(device.fd, _journal(flags=flags) * 2, cluster * 4096)


def test_a_journal_that_windows_did_not_close_is_refused(opened: Open, filled: Path) -> None:
    device = opened(filled)
    _write_journal(device, flags=0)
    _refused(device, "not cleanly unmounted")


def test_a_journal_that_windows_closed_is_none_to_worry_about(opened: Open, filled: Path) -> None:
    device = opened(filled)
    _write_journal(device, flags=2)
    assert Ntfs().grow(device).changed


def test_a_guests_mark_for_a_check_is_refused_and_ntfsresizes_own_is_not(
    opened: Open, filled: Path
) -> None:
    device = opened(filled)
    _tool("ntfsfix", os.readlink(device.path))  # mends a few things, and marks it for the rest
    _refused(device, "marked for a check")
    assert Ntfs().minimum(device) is None

    mine = opened(filled)
    Ntfs().grow(mine, 50 * MIB)
    assert Ntfs().minimum(mine)
    assert Ntfs().grow(mine).changed
    assert Ntfs().shrink(mine, 50 * MIB).changed
    _write_journal(mine, flags=2)  # Windows was there, and did not come to its check
    _refused(mine, "marked for a check")


def test_a_volume_cut_off_with_its_image_is_refused(opened: Open, filled: Path) -> None:
    device = opened(filled)
    cut = Device(device.fd, MADE - 512)
    with pytest.raises(Corrupt, match="the image was cut"):
        Ntfs().grow(cut)
    assert Ntfs().minimum(cut) is None


def test_the_minimum_is_told_of_an_image_that_is_open_for_reading_only(filled: Path) -> None:
    with filled.open("rb") as image:
        device = Device(image.fileno(), MADE)
        before = _fingerprint(device)
        minimum = Ntfs().minimum(device)
        assert minimum
        assert minimum < MADE
        assert Ntfs().minimum(device.part(4096, MIB)) is None
        assert _fingerprint(device) == before
