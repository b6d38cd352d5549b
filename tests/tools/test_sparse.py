"""Sparse images: holes stay holes, nothing is reserved, and it is said so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .test_agent_commands import MIB, told
from .test_agent_commands import images as images
from .test_agent_commands import virtstore as command

TIB = 1 << 40


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_sparse_image_larger_than_its_disk_is_made_and_is_said_to_be_sparse(images: Path) -> None:
    new = images / "new.img"
    assert (
        "sparse, nothing of it allocated" in command("create", new, "1T", "--sparse", "-n").stdout
    )
    assert not new.exists()
    assert told("create", new, "1T", "--sparse")["size"] == TIB
    assert (new.stat().st_size, allocated(new)) == (TIB, 0)
    assert "sparse: 1 TiB not reserved" in command("info", new).stdout
    assert f"sparse: {TIB} not reserved" in command("info", new, "--bytes").stdout


def test_of_an_image_that_is_reserved_nobody_says_that_it_is_sparse(images: Path) -> None:
    command("create", images / "new.img", "1M")
    assert "sparse" not in command("info", images / "new.img").stdout
    command("compress", images / "x.img", "--keep")
    assert "sparse" not in command("info", images / "x.img.zst").stdout


@pytest.mark.parametrize("archive", [False, True], ids=["image", "archive"])
def test_a_sparse_copy_takes_the_room_of_its_data(images: Path, *, archive: bool) -> None:
    source, target = images / "x.img", images / "y.img"
    os.truncate(source, TIB)
    with source.open("r+b") as file:
        file.seek(TIB - 4 * MIB)
        file.write(b"x" + bytes(MIB) + b"y")
    if archive:
        command("compress", source)
        source = images / "x.img.zst"
    assert "sparse" in command("copy", source, target, "--sparse", "-n").stdout
    assert told("copy", source, target, status=7)["error"]["code"] == "no-space"
    done = told("copy", source, target, "--sparse")
    assert done["size"] == TIB
    assert allocated(target) < 2 * MIB
    assert told("diff", source, target)["different"] == 0
    assert told("copy", source, target, "--sparse", "--overwrite")["digest"] == done["digest"]


def test_a_sparse_copy_goes_on_with_what_another_copy_had_reserved(images: Path) -> None:
    left = images / "y.img.virtstore-partial"
    left.write_bytes((images / "x.img").read_bytes()[:MIB].ljust(2 * MIB, b"\xff"))
    left.chmod(0o600)
    os.setxattr(left, "user.virtstore.draft", b"1")
    with left.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 64 * MIB)
    assert told("copy", images / "x.img", images / "y.img", "--sparse")["written"] < 2 * MIB
    assert (images / "y.img").read_bytes() == (images / "x.img").read_bytes()
    assert allocated(images / "y.img") < 2 * MIB


def test_what_cannot_be_sparse_is_refused_before_anything_is_done(images: Path) -> None:
    before = sorted(images.iterdir())
    source, target = images / "x.img", images / "y.zst"
    assert told("copy", source, target, "--archive", "--sparse", status=2)["error"]["path"] is None
    refused = command("copy", source, "-", "--sparse", status=11)
    assert (refused.stdout, "leave --sparse out" in refused.stderr) == ("", True)
    assert sorted(images.iterdir()) == before


def test_a_sparse_image_grows_beyond_its_disk_only_if_that_is_asked_for(images: Path) -> None:
    new = images / "new.img"
    command("create", new, "1T", "--sparse")
    for dry in ([], ["--dry-run"]):
        assert told("grow", new, "+1T", *dry, status=7)["error"]["code"] == "no-space"
        assert (new.stat().st_size, allocated(new)) == (TIB, 0)
    assert "with nothing reserved" in command("grow", new, "+1T", "--sparse", "--dry-run").stdout
    assert told("grow", new, "+1T", "--sparse")["size"] == 2 * TIB
    assert allocated(new) == 0
    assert told("grow", new, "+1M")["size"] == 2 * TIB + MIB
    assert MIB <= allocated(new) < 2 * MIB


def test_a_tool_gets_no_sparse_image(images: Path) -> None:
    image = images / "x.img"
    os.truncate(image, 64 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image, "32M"], check=True)
    before = allocated(image)
    command("growfs", image, "--dry-run")
    assert allocated(image) == before
    command("growfs", image)
    assert allocated(image) >= 64 * MIB


def test_a_sparse_image_for_which_there_is_no_room_is_not_resized(images: Path) -> None:
    image = images / "x.img"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image], check=True)
    os.truncate(image, TIB)
    before = allocated(image)
    for dry in (["--dry-run"], []):
        assert told("growfs", image, "1G", *dry, status=7)["error"]["code"] == "no-space"
    assert allocated(image) == before
