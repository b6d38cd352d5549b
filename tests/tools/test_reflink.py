"""A copy that shares its source's blocks, on a real XFS and a real Btrfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.stores import mounted
from tests.hosts.trees import digest_of

from .test_agent_commands import MIB, told
from .test_agent_commands import virtstore as command

_MKFS = {"xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}
_DATA = 32 * MIB


@pytest.fixture(scope="module", params=_MKFS)
def filesystem(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    with mounted(tmp_path_factory.mktemp("fs"), 320 << 20, *_MKFS[request.param]) as point:
        yield point


@pytest.fixture
def images(filesystem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root with x.img, of random bytes and a hole, and beside it on the same file system `other`,
    and `elsewhere` on another."""
    roots = filesystem / "images", filesystem / "other", tmp_path / "elsewhere"
    for root in roots:
        root.mkdir(mode=0o700)
    tables = [f'[[directory]]\npath = "{root}"\naccess = "write"\n' for root in roots]
    (tmp_path / "config.toml").write_text("\n".join(tables))
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(tmp_path / "config.toml"))
    with (roots[0] / "x.img").open("wb") as file:
        file.write(os.urandom(_DATA))
        file.truncate(2 * _DATA)
        os.fsync(file.fileno())
    yield roots[0]
    for root in roots[:2]:
        shutil.rmtree(root)


def free(root: Path) -> int:
    subprocess.run(["sync", "-f", root], check=True)
    return shutil.disk_usage(root).free


@pytest.mark.parametrize("beside", ["images", "other"])
def test_the_copy_takes_no_room_and_is_an_image_of_its_own(images: Path, beside: str) -> None:
    source, target = images / "x.img", images.parent / beside / "y.img"
    before = free(images)
    done = told("copy", source, target, "--reflink")
    assert free(images) > before - _DATA // 4
    assert (done["size"], done["written"]) == (2 * _DATA, 0)
    assert done["digest"] == digest_of(source) == digest_of(target)
    with target.open("r+b") as file:
        file.write(b"its own")
    assert digest_of(source) == done["digest"] != digest_of(target)
    assert os.listxattr(target) == []


def test_it_replaces_an_image_which_keeps_its_owner_and_mode(images: Path) -> None:
    old = images / "old.img"
    old.write_bytes(b"old")
    os.chown(old, 4711, 4712)
    old.chmod(0o640)
    assert told("copy", images / "x.img", old, "--reflink", status=4)["error"]["code"] == "exists"
    command("copy", images / "x.img", old, "--reflink", "--overwrite")
    status = old.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (4711, 4712, 0o640)
    assert digest_of(old) == digest_of(images / "x.img")


def test_an_image_in_use_is_shared_as_it_is_at_one_moment_if_that_is_asked_for(
    images: Path,
) -> None:
    source, target = images / "x.img", images / "y.img"
    with source.open("r+b"):
        assert told("copy", source, target, "--reflink", status=6)["error"]["code"] == "in-use"
        assert not target.exists()
        done = told("copy", source, target, "--reflink", "--snapshot")
    assert done["digest"] == digest_of(source) == digest_of(target)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_what_cannot_be_shared_is_refused_and_what_was_partial_stays(
    images: Path, tmp_path: Path, dry: list[str]
) -> None:
    partial = tmp_path / "elsewhere" / "y.img.virtstore-partial"
    partial.write_bytes(b"left")
    for source, target, says in (
        (images / "x.img", partial.with_name("y.img"), "one such file system"),
        (images / "x.img.zst", images / "y.img", "archive"),
    ):
        if source.suffix == ".zst":
            command("compress", images / "x.img")
        error = told("copy", source, target, "--reflink", *dry, status=11)["error"]
        assert says in error["message"]
        assert error["message"].endswith("leave --reflink out")
        assert not target.exists()
    assert partial.read_bytes() == b"left"
    assert list(images.glob("*partial*")) == []


@pytest.mark.parametrize(("one", "other"), [("x.img", "y.qcow2"), ("q.qcow2", "y.img")])
def test_the_disk_in_a_container_shares_nothing_and_nothing_is_made(
    images: Path, one: str, other: str
) -> None:
    command("create", images / "q.qcow2", "1M")
    before = sorted(images.iterdir())
    for dry in (["--dry-run"], []):
        error = told("copy", images / one, images / other, "--reflink", *dry, status=11)["error"]
        assert "'virtstore snapshot'" in error["message"]
    assert sorted(images.iterdir()) == before


def test_a_dry_run_says_that_blocks_are_shared_and_shares_none(images: Path) -> None:
    target = images / "y.img"
    said = command("copy", images / "x.img", target, "--reflink", "--dry-run").stdout
    assert "shares its blocks" in said
    assert list(images.iterdir()) == [images / "x.img"]
    assert "blocks are shared" in command("copy", images / "x.img", target, "--reflink").stdout
