"""What is listed, what never is, and what a listing costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore
from virtstore.model import ImageInfo

from .shell import MIB, sh

_COUNTING_LVM = """#!/bin/sh
echo "$@" >>{log}
exec {lvm} "$@"
"""


@pytest.fixture
def calls(vg0: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets a line for every call of `lvm` by the agents that are started now."""
    log, program = tmp_path / "calls", tmp_path / "bin" / "lvm"
    program.parent.mkdir()
    program.write_text(_COUNTING_LVM.format(log=log, lvm=sh("command -v lvm")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return log


def make(first: int, last: int) -> None:
    """Volumes of an extent, each with a little file system, all at once."""
    commands = [f"lvcreate -y -an -Zn -Wn -L 1M -n v{n:03} many" for n in range(first, last)]
    Path("/tmp/commands").write_text("\n".join(commands))
    sh("lvm </tmp/commands >/dev/null && vgchange -qq -ay many")


@pytest.fixture
def many() -> Iterator[None]:
    sh("pvcreate -qq --setphysicalvolumesize 120M /dev/ubdb && vgcreate -qq -s 1M many /dev/ubdb")
    Path("/etc/virtstore/conf.d").mkdir(exist_ok=True)
    extra = Path("/etc/virtstore/conf.d/many.toml")
    extra.write_text('[[volume_group]]\nname = "many"\naccess = "read"\n')
    yield
    extra.unlink()
    sh("vgremove -qq -y many && pvremove -qq /dev/ubdb")


def test_forty_volumes_cost_no_more_calls_of_lvm_than_four(calls: Path, many: None) -> None:
    costs = []
    for before, count in ((0, 4), (4, 40)):
        make(before, count)
        with virtstore.connect("local:") as here:
            calls.write_text("")
            listed = here.list("/dev/many", long=True)
        assert len(listed) == count
        assert all(isinstance(e, ImageInfo) and e.size == MIB for e in listed)
        costs.append(len(calls.read_text().splitlines()))
    assert costs == [1, 1]


def test_pools_and_parts_of_volumes_never_show_and_are_denied(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y --type thin-pool -L 16M -n pool vg0")
    image = here.create("/dev/vg0/thin", 8 * MIB, thin="pool")
    assert {entry.path for entry in here.list("/dev/vg0")} == {image.path}
    for name in ("pool", "pool_tdata", "pool_tmeta", "lvol0_pmspare"):
        path = f"/dev/vg0/{name}"
        internal = here.image(path)
        for ask in (internal.info, internal.delete, lambda image=internal: image.grow("+4M")):
            with pytest.raises(virtstore.Error) as raised:
                ask()
            assert raised.value.code in ("denied", "not-found"), name
        with pytest.raises(virtstore.Error):
            here.create(path, MIB)
    with pytest.raises(virtstore.Denied):
        here.image("/dev/vg0/pool").info()
    assert sh("lvs --noheadings -o lv_size --units b --nosuffix vg0/pool") == str(16 * MIB)
    assert {entry.path for entry in here.list("/dev/vg0")} == {image.path}


def test_a_volume_group_that_is_not_configured_never_shows_and_is_denied(
    here: virtstore.Host,
) -> None:
    sh("vgcreate -qq other /dev/ubdb && lvcreate -qq -y -L 4M -n web other")
    assert {entry.path for entry in here.list(recursive=True)} == {"/dev/vg0", "/mnt/images"}
    assert [group.path for group in here.storage_info().volume_groups] == ["/dev/vg0"]
    for path in ("/dev/other/web", "/dev/mapper/other-web"):
        with pytest.raises(virtstore.Denied):
            here.image(path).info()
    with pytest.raises(virtstore.Denied):
        here.list("/dev/other")
    sh("vgremove -qq -y other && pvremove -qq /dev/ubdb")


def test_a_guests_own_volume_group_never_shows_and_is_never_activated(
    here: virtstore.Host,
) -> None:
    image = here.create("/dev/vg0/web", 24 * MIB)
    into = "--config devices/scan_lvs=1"
    sh(f"pvcreate -qq {into} {image.path} && vgcreate -qq {into} guest {image.path}")
    sh(f"lvcreate -qq -y {into} -L 8M -n inner guest && vgchange -qq {into} -an guest")
    # Even on a host that would look into volumes.
    configuration = Path("/etc/lvm/lvm.conf")
    before = configuration.read_text()
    configuration.write_text(before.replace("scan_lvs = 0", "scan_lvs = 1"))
    extra = Path("/etc/virtstore/conf.d/guest.toml")
    extra.parent.mkdir(exist_ok=True)
    extra.write_text('[[volume_group]]\nname = "guest"\naccess = "write"\n')
    try:
        assert sh("vgs --noheadings -o vg_name guest") == "guest"
        with virtstore.connect("local:") as again:
            with pytest.raises(virtstore.NotFound):
                again.list("/dev/guest")
            [listed] = again.list("/dev/vg0", long=True)
            assert isinstance(listed, ImageInfo)
            assert listed.filesystem
            assert listed.filesystem.type == "LVM2_member"
            again.image(image.path).snapshot("s")
        assert "guest" not in sh("dmsetup ls")
    finally:
        configuration.write_text(before)
        extra.unlink()
    here.image(image.path).delete(with_snapshots=True)


def test_a_copy_in_a_directory_is_called_as_its_volume_and_not_as_its_node(
    here: virtstore.Host,
) -> None:
    here.create("/dev/vg0/my-web", 4 * MIB)
    node = here.image("/dev/mapper/vg0-my--web")
    assert node.copy(here.image("/mnt/images")).path == "/mnt/images/my-web"
    with pytest.raises(virtstore.UsageError, match="same image"):
        node.copy(here.image("/dev/vg0/my-web"), overwrite=True)
