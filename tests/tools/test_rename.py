"""An image gets another name where it is, and nothing else changes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import virtstore as api

from .test_agent_commands import CHANGED, MIB, images, told, tree, virtstore

__all__ = ["images"]  # a fixture


def test_a_renamed_image_is_the_same_under_its_new_name(images: Path) -> None:
    before = (images / "x.img").stat()
    done = told("rename", images / "x.img", "y.img")
    assert set(done) == CHANGED
    assert (done["path"], done["changed"], done["size"]) == (f"{images}/y.img", True, 3 * MIB)
    now = (images / "y.img").stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_mode) == (
        *(before.st_ino, before.st_mtime_ns),
        before.st_mode,
    )
    assert os.listdir(images) == ["y.img"]
    assert told("rename", images / "x.img", "y.img", status=3)["error"]["code"] == "not-found"


def test_an_image_that_is_called_so_already_is_unchanged(images: Path) -> None:
    before = tree(images)
    assert told("rename", images / "x.img", "x.img")["changed"] is False
    same = virtstore("rename", images / "x.img", "x.img").stdout
    assert "unchanged" in same
    assert "->" not in same
    assert tree(images) == before


def test_the_old_name_is_told_before_the_new_one(images: Path) -> None:
    shown = virtstore("rename", images / "x.img", "y.img").stdout
    assert shown == f"{images}/x.img -> {images}/y.img  3145728 bytes (3 MiB)\n"


@pytest.mark.parametrize("name", ["y.img", "sub"])
def test_a_name_that_is_taken_is_left_to_who_has_it(images: Path, name: str) -> None:
    (images / "y.img").write_bytes(b"another")
    (images / "sub").mkdir()
    before = tree(images)
    assert told("rename", images / "x.img", name, status=4)["error"]["code"] == "exists"
    assert tree(images) == before


def test_what_a_copy_left_of_the_new_name_is_no_image_and_goes(images: Path) -> None:
    with api.connect() as host:
        host.image(f"{images}/x.img").copy(host.image(f"{images}/y.img"))
    draft = images / "y.img.virtstore-partial"
    (images / "y.img").rename(draft)
    os.setxattr(draft, "user.virtstore.draft", b"")
    virtstore("rename", images / "x.img", "y.img")
    assert os.listdir(images) == ["y.img"]


@pytest.mark.parametrize("suffix", ["partial", "rework"])
def test_what_is_partial_has_no_name_to_change(images: Path, suffix: str) -> None:
    (images / "x.img").rename(images / f"x.img.virtstore-{suffix}")
    before = tree(images)
    error = told("rename", images / "x.img", "y.img", status=3)["error"]
    assert "an interrupted operation left a partial one" in error["message"]
    assert tree(images) == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "sub/y.img", "/y.img", "y\n", "y.virtstore-partial"]
)
def test_what_is_no_name_is_refused_before_anything_is_done(images: Path, name: str) -> None:
    before = tree(images)
    assert told("rename", images / "x.img", name, status=2)["error"]["code"] == "usage"
    assert tree(images) == before


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("x.img", "x.img.zst", 2),
        ("x.img", "x.img.GZ", 2),
        ("x.img", "x.qcow2", 11),
        ("x.img", "x.raw", 0),
        ("a.img.gz", "a.img.zst", 2),
        ("a.img.gz", "b.img.gz", 0),
        ("a.img.gz", "a.vhd.gz", 11),
        ("a.img.gz", "a.qcow2.gz", 0),  # a disk that `uncompress` makes a qcow2 with
        ("q.qcow2", "q.img", 11),
        ("q.qcow2", "r.qcow2", 0),
        ("guest.img", "web.img", 0),  # a guest can write that into its raw disk
        ("broken.img.zst", "old.img.zst", 0),
    ],
)
def test_a_name_promises_what_is_in_the_image(
    images: Path, old: str, new: str, status: int
) -> None:
    subprocess.run("head -c 100000 x.img | gzip > a.img.gz", shell=True, cwd=images, check=True)
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", "q.qcow2", "1M"), cwd=images)
    (images / "guest.img").write_bytes((images / "q.qcow2").read_bytes())
    (images / "broken.img.zst").write_bytes(b"(\xb5/\xfd and no more")
    before = tree(images)
    told("rename", images / old, new, status=status)
    before |= {} if status else {new: before[old]}
    assert tree(images) == {name: what for name, what in before.items() if status or name != old}


def test_a_plain_image_is_told_which_names_are_not_for_it(images: Path) -> None:
    error = told("rename", images / "x.img", "x.img.GZ", status=2)["error"]
    assert "a plain image, whose name must not end in .gz: that is a gzip" in error["message"]


@pytest.mark.parametrize("access", ["append", "read"])
def test_only_who_may_change_images_renames_them(
    images: Path, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(config.read_text().replace("write", access))
    before = tree(images)
    assert told("rename", images / "x.img", "y.img", status=5)["error"]["code"] == "denied"
    assert tree(images) == before


def test_an_image_is_renamed_in_python_and_the_log_says_so(images: Path, tmp_path: Path) -> None:
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(f'log = "{tmp_path}/log"\n{config.read_text()}')
    with api.connect() as host:
        dry = host.image(f"{images}/x.img").rename("y.img", dry_run=True)
        assert (dry.dry_run, dry.plan) == (
            True,
            (f"rename {images}/x.img to {images}/y.img",),
        )
        assert not (images / "y.img").exists()
        done = host.image(f"{images}/x.img").rename("y.img")
        assert (done.path, done.host) == (f"{images}/y.img", "local")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert f'verb=rename path="{images}/x.img" name="y.img" outcome=done' in line
