"""Backups of logical volumes: from snapshots, which are gone afterwards; restored into others."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore

from .shell import MIB, is_zero, lvs, sh

BACKUPS = "/mnt/images/backups"
SIZE = 8 * MIB


@pytest.fixture
def images(here: virtstore.Host) -> list[virtstore.Image]:
    """Two volumes of random bytes, and a directory for their backups."""
    sh(f"mkdir {BACKUPS}")
    made = [here.create(f"/dev/vg0/{name}", SIZE) for name in ("web", "db")]
    for image in made:
        sh(f"head -c {SIZE} /dev/urandom >{image.path}")
    return [*made]


def backed_up(here: virtstore.Host, *paths: str) -> list[virtstore.BackedUp]:
    done = virtstore.backup([here.image(path) for path in paths], here.image(BACKUPS))
    assert [each.error for each in done] == [None] * len(done)
    return done


def test_a_group_is_backed_up_as_a_whole_while_somebody_writes_to_it(
    here: virtstore.Host, images: list[virtstore.Image]
) -> None:
    images[0].snapshot("web-s1")
    with Path(images[0].path).open("r+b"):
        done = backed_up(here, "/dev/vg0")
        assert [each.source for each in done] == ["/dev/vg0/db", "/dev/vg0/web"]
        for each in done:
            sh(f"zstd -dqc {each.target} | cmp - {each.source}")
    assert lvs() == {"web", "db", "web-s1"}


def test_where_there_is_no_room_for_a_snapshot_only_what_nobody_uses_is_backed_up(
    here: virtstore.Host, images: list[virtstore.Image]
) -> None:
    sh("lvcreate -qq -y -Wn -Zn -l 100%FREE -n rest vg0")
    [done] = backed_up(here, "/dev/vg0/web")
    sh(f"zstd -dqc {done.target} | cmp - {done.source}")
    with Path(images[0].path).open("r+b"):
        [failed] = virtstore.backup([images[0]], here.image(BACKUPS))
    assert failed.error
    assert failed.error.code == "no-space"


def test_a_backup_is_restored_into_a_new_volume_and_over_one_that_is_there(
    here: virtstore.Host, images: list[virtstore.Image]
) -> None:
    backed_up(here, "/dev/vg0/web")
    backup, web = here.image(f"{BACKUPS}/web"), images[0]
    virtstore.restore(backup, here.image("/dev/vg0/new"))
    sh(f"cmp /dev/vg0/new {web.path}")
    with pytest.raises(virtstore.Exists):
        virtstore.restore(backup, web)
    images[1].grow(2 * SIZE)
    sh(f"head -c {2 * SIZE} /dev/urandom >{images[1].path}")
    virtstore.restore(backup, images[1], overwrite=True)
    sh(f"cmp -n {SIZE} {images[1].path} {web.path}")
    assert is_zero(images[1].path, SIZE)
    web.delete()
    assert virtstore.restore(backup, here.image("/dev/vg0")).path == web.path
    sh(f"cmp /dev/vg0/new {web.path}")


def test_a_volume_that_is_too_small_is_not_overwritten(
    here: virtstore.Host, images: list[virtstore.Image]
) -> None:
    backed_up(here, "/dev/vg0/web")
    small = here.create("/dev/vg0/small", SIZE // 2)
    with pytest.raises(virtstore.NoSpace):
        virtstore.restore(here.image(f"{BACKUPS}/web"), small, overwrite=True)
    assert is_zero(small.path)
