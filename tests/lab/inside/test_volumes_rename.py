"""A volume gets another name, with what LVM and virtstore keep of it."""

from __future__ import annotations

import pytest

import virtstore

from .shell import MIB, fill, lvs, sh


def test_a_renamed_volume_keeps_its_contents_tags_and_snapshots(here: virtstore.Host) -> None:
    made = here.create("/dev/vg0/web", 8 * MIB)
    fill(made.path, MIB)
    sh("lvchange -qq --addtag mine vg0/web")
    before = sh("sha256sum </dev/vg0/web")
    made.snapshot("web-s1")
    done = made.rename("www")
    assert (done.path, done.size) == ("/dev/vg0/www", 8 * MIB)
    found = here.image("/dev/vg0/www").info()
    assert found.snapshots == ("/dev/vg0/web-s1",)
    assert here.image("/dev/vg0/web-s1").info().snapshot_of == "/dev/vg0/www"
    assert sh("sha256sum </dev/vg0/www") == sh("sha256sum </dev/vg0/web-s1") == before
    assert sh("lvs --noheadings -o lv_tags vg0/www").split() == ["mine"]
    assert here.image("/dev/vg0/web-s1").rename("kept").path == "/dev/vg0/kept"


def test_a_volume_replaces_none_and_is_left_alone_while_it_is_used(here: virtstore.Host) -> None:
    web = here.create("/dev/vg0/web", 4 * MIB)
    here.create("/dev/vg0/www", 4 * MIB)
    with pytest.raises(virtstore.Exists):
        web.rename("www")
    with open("/dev/vg0/web", "rb"), pytest.raises(virtstore.InUse):
        web.rename("other")
    for name in ("no name", "-x", "x" * 101, "w.virtstore-undo"):
        with pytest.raises(virtstore.UsageError):
            web.rename(name)
    assert {"web", "www"} <= set(lvs())
    assert "other" not in lvs()
