"""`copy --base` on real file systems: what it moves, what it takes, and what it says of its base.

Host tools needed: mkfs.xfs; root, for a mount.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore import connect
from virtstore.client.api import Host
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, NotFound, UsageError

from .test_agent_commands import told, virtstore

CHUNKS = 60
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a mount needs root")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir(mode=0o700)
    return root


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A root on an XFS of its own, where files share blocks."""
    disk, root = tmp_path / "xfs.img", tmp_path / "mounted"
    disk.touch()
    os.truncate(disk, 512 << 20)
    subprocess.run(["mkfs.xfs", "-q", str(disk)], check=True)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(disk), str(root)], check=True)
    try:
        root.chmod(0o700)
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)


@pytest.fixture(params=["plain", pytest.param("xfs", marks=ROOT)])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    found: Path = request.getfixturevalue(request.param)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{found}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    write_image(found / "x.img")
    return found


@pytest.fixture
def host(root: Path) -> Iterator[Host]:
    with connect("local:") as host:
        yield host


def write_image(path: Path) -> None:
    """An image of a night: chunks of which each compresses to some 600 KiB, a few zeros, no whole
    chunk at the end."""
    noise = random.Random(5)
    with path.open("wb") as file:
        for number in range(CHUNKS):
            zeros = number % 10 == 9
            file.write(bytes(CHUNK) if zeros else noise.randbytes(600_000) + bytes(CHUNK - 600_000))
        file.write(b"end")


def change(path: Path, *chunks: int) -> None:
    for chunk in chunks:
        with path.open("r+b") as file:
            file.seek(chunk * CHUNK + 1234)
            file.write(b"something else")


def free(root: Path) -> int:
    subprocess.run(["sync", "-f", str(root)], check=True)
    found = os.statvfs(root)
    return found.f_bfree * found.f_frsize


def test_an_archive_on_a_base_is_the_one_without_and_takes_what_changed(
    host: Host, root: Path
) -> None:
    image = host.image(f"{root}/x.img")
    image.copy(host.image(f"{root}/1.img.zst"), archive=True)
    change(root / "x.img", 3, 40)
    before = free(root)
    second = image.copy(
        host.image(f"{root}/2.img.zst"), archive=True, base=f"{root}/1.img.zst"
    ).result
    taken = before - free(root)
    image.copy(host.image(f"{root}/3.img.zst"), archive=True)
    size = (root / "3.img.zst").stat().st_size
    if root.name == "mounted":
        assert taken < size * 0.06  # 2 of 54 chunks, and what the file system needs
        assert second.written < size * 0.06
    else:
        assert second.written == size
    data = (root / "2.img.zst").read_bytes()
    third = (root / "3.img.zst").read_bytes()
    # They differ in when they were made, at the most.
    assert len(data) == len(third)
    assert data[: len(data) - 8192] == third[: len(data) - 8192]
    for name in ("1.img.zst", "2.img.zst"):
        host.image(f"{root}/{name}").verify()
    (root / "1.img.zst").unlink()
    host.image(f"{root}/2.img.zst").copy(host.image(f"{root}/back.img"))
    assert (root / "back.img").read_bytes() == (root / "x.img").read_bytes()


def test_a_damaged_base_is_told_and_does_no_harm(host: Host, root: Path) -> None:
    image = host.image(f"{root}/x.img")
    image.copy(host.image(f"{root}/1.img.zst"), archive=True)
    with (root / "1.img.zst").open("r+b") as file:
        for at in (5_000_000, 9_000_000):
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
    copied = told(
        "copy", root / "x.img", root / "2.img.zst", "--archive", "--base", root / "1.img.zst"
    )
    assert "damaged in 2 frames" in copied["warnings"][0]
    assert host.image(f"{root}/2.img.zst").verify().checked == "digest"
    with pytest.raises(Corrupt, match="checksum"):
        host.image(f"{root}/1.img.zst").verify(quick=True)


def test_a_base_of_another_size_is_used_for_what_both_have(host: Host, root: Path) -> None:
    image = host.image(f"{root}/x.img")
    image.copy(host.image(f"{root}/1.img.zst"), archive=True)
    for size in (CHUNK * CHUNKS // 2 + 77, CHUNK * (CHUNKS + 3)):
        os.truncate(root / "x.img", size)
        name = f"{size}.img.zst"
        image.copy(host.image(f"{root}/{name}"), archive=True, base=f"{root}/1.img.zst")
        host.image(f"{root}/{name}").copy(host.image(f"{root}/back.img"), overwrite=True)
        assert (root / "back.img").read_bytes() == (root / "x.img").read_bytes()


@pytest.mark.parametrize("what", ["raw", "gzip", "cut"])
def test_what_can_be_no_base_is_told_and_all_is_sent(host: Host, root: Path, what: str) -> None:
    image = host.image(f"{root}/x.img")
    base = root / "base"
    if what == "raw":
        base.write_bytes((root / "x.img").read_bytes())
    elif what == "gzip":
        image.copy(host.image(f"{base}"), archive=True, format="gzip", level=1)
    else:
        image.copy(host.image(f"{base}"), archive=True)
        os.truncate(base, base.stat().st_size - 10_000)
    copied = image.copy(host.image(f"{root}/2.img.zst"), archive=True, base=f"{base}").result
    assert "no use as a base" in copied.warnings[0]
    host.image(f"{root}/2.img.zst").verify()


def test_a_base_without_a_name_is_refused_as_what_it_is(root: Path) -> None:
    words = ("copy", root / "x.img", root / "2.img.zst", "--archive", "--base", "")
    error = told(*words, status=2)["error"]
    assert (error["code"], error["path"]) == ("usage", None)
    assert "--base" in error["message"]


def test_a_base_that_is_not_there_or_makes_no_sense_is_refused(host: Host, root: Path) -> None:
    image, target = host.image(f"{root}/x.img"), host.image(f"{root}/2.img.zst")
    with pytest.raises(NotFound):
        image.copy(target, archive=True, base=f"{root}/none.img.zst")
    with pytest.raises(UsageError, match="target itself"):
        image.copy(target, archive=True, base=f"{root}/2.img.zst")
    for options in ({}, {"archive": True, "format": "gzip"}):
        with pytest.raises(UsageError, match="--archive"):
            image.copy(target, base=f"{root}/1.img.zst", **options)  # type: ignore[arg-type]
    refused = virtstore(
        *("copy", root / "x.img", "-", "--archive", "--base", root / "1.img.zst"), status=2
    )
    assert "leave --base out" in refused.stderr
    assert sorted(path.name for path in root.iterdir()) == ["x.img"]
