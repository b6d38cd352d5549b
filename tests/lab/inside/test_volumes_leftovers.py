"""What is left of a volume that was changed in place is told from a draft by its tags: who may
only make new volumes leaves it alone. And a volume's own tags go to what replaces it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtstore
from virtstore.backends.lvm.volume_group import VolumeGroup

from .shell import CONFIGURATION, MIB, fill, lvs, sh

Work = Callable[[virtstore.Host], object]
WEB, SOURCE = "/dev/vg0/web", "/dev/vg0/source"

MAKING: dict[str, Work] = {
    "create": lambda h: h.create(WEB, 8 * MIB),
    "copy": lambda h: h.image(SOURCE).copy(h.image(WEB)),
    "copy --overwrite": lambda h: h.image(SOURCE).copy(h.image(WEB), overwrite=True),
    "snapshot": lambda h: h.image(SOURCE).snapshot("web"),
}


@pytest.fixture
def appending(here: virtstore.Host, tmp_path: Path) -> Iterator[virtstore.Host]:
    (tmp_path / "append.toml").write_text(CONFIGURATION.replace('"write"', '"append"'))
    with virtstore.connect(config=str(tmp_path / "append.toml")) as host:
        yield host


def test_listing_changes_nothing_where_nothing_may_be_changed(
    here: virtstore.Host, tmp_path: Path
) -> None:
    """The volume was published, and not untagged yet."""
    here.create(WEB, 4 * MIB)
    sh("lvchange -qq --addtag virtstore.partial vg0/web")
    (tmp_path / "read.toml").write_text(CONFIGURATION.replace('"write"', '"read"'))
    with virtstore.connect(config=str(tmp_path / "read.toml")) as reading:
        assert [entry.path for entry in reading.list("/dev/vg0", long=True)] == [WEB]
        reading.image(WEB).info()
    assert sh("lvs --noheadings -o lv_tags vg0") == "virtstore.partial"
    here.list("/dev/vg0")
    assert sh("lvs --noheadings -o lv_tags vg0") == ""


@pytest.fixture
def source(here: virtstore.Host) -> virtstore.Image:
    image = here.create(SOURCE, 8 * MIB)
    fill(image.path, 8 * MIB, b"\x55")
    return image


def left_of_web(version: str) -> str:
    """The volume that is left of `web` where a copy-contents was cut after its first bytes."""
    if version == "older":
        name = "web.virtstore-partial"
        sh(f"lvcreate -qq -y -L 8M --addtag virtstore.partial -n {name} vg0")
        fill(f"/dev/vg0/{name}", 8 * MIB, b"\x77")
        return name
    with virtstore.connect("local:") as host:
        host.create(WEB, 8 * MIB)
    fill(WEB, 8 * MIB, b"\x77")
    with VolumeGroup("vg0").rework("web") as image:
        image.write_at(0, b"\x77" * 4096)
    return "web.virtstore-rework"


@pytest.mark.parametrize("version", ["this", "older"])
def test_with_access_to_append_what_is_left_of_a_volume_stays(
    appending: virtstore.Host, here: virtstore.Host, source: virtstore.Image, version: str
) -> None:
    name = left_of_web(version)
    assert [e.state for e in here.list("/dev/vg0") if e.path == WEB] == ["partial"]
    assert "copy-contents" in here.image(WEB).info().warnings[0]
    for work in MAKING.values():
        with pytest.raises(virtstore.Denied, match='needs "write"'):
            work(appending)
    assert lvs() == {"source", name}
    assert Path(f"/dev/vg0/{name}").read_bytes() == b"\x77" * (8 * MIB)


@pytest.mark.parametrize("version", ["this", "older"])
def test_the_same_copy_contents_makes_it_whole(
    here: virtstore.Host, source: virtstore.Image, version: str
) -> None:
    left_of_web(version)
    source.copy_contents(here.image(WEB))
    assert Path(WEB).read_bytes() == b"\x55" * (8 * MIB)
    assert sh("lvs --noheadings -o lv_tags vg0") == ""


def test_with_access_to_write_it_is_removed_or_replaced_once_that_is_said(
    here: virtstore.Host, source: virtstore.Image
) -> None:
    left_of_web("this")
    for name in ("create", "copy", "snapshot"):
        with pytest.raises(virtstore.Exists, match="copy-contents"):
            MAKING[name](here)
    MAKING["copy --overwrite"](here)
    assert lvs() == {"source", "web"}
    here.image(WEB).delete()
    left_of_web("this")
    assert here.clean("/dev/vg0").removed == (WEB,)
    assert lvs() == {"source"}


def test_a_draft_is_gone_on_with_by_who_may_make_new_volumes(
    appending: virtstore.Host, source: virtstore.Image
) -> None:
    VolumeGroup("vg0").draft("web", 8 * MIB).close()
    MAKING["copy"](appending)
    assert Path(WEB).read_bytes() == b"\x55" * (8 * MIB)
    assert sh("lvs --noheadings -o lv_tags vg0") == ""


def test_what_replaces_a_volume_has_the_tags_that_others_gave_it(
    here: virtstore.Host, source: virtstore.Image
) -> None:
    here.create(WEB, 8 * MIB)
    sh("lvchange -qq --addtag backup --addtag vm-100 vg0/web")
    MAKING["copy --overwrite"](here)
    assert sh("lvs --noheadings -o lv_tags vg0/web") == "backup,vm-100"
