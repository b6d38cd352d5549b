"""`backup` of images that are being written to: each is of one moment, whoever keeps that."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import guest
from tests.contract.stores import mounted
from tests.libvirt_host import IMAGES, LibvirtHost

from .live_copies import until_nothing_is_left
from .test_agent_commands import MIB
from .test_backup import backed_up, restored
from .test_json import used


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    with mounted(tmp_path_factory.mktemp("fs"), 320 * MIB, "mkfs.xfs", "-q") as point:
        yield point


@pytest.fixture
def shared(xfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with images whose file system shares blocks; beside it one for backups."""
    roots = xfs / "images", xfs / "backups"
    for root in roots:
        root.mkdir(mode=0o700)
    tables = [f'[[directory]]\npath = "{root}"\naccess = "write"\n' for root in roots]
    (tmp_path / "config.toml").write_text("\n".join(tables))
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(tmp_path / "config.toml"))
    (roots[0] / "x.img").write_bytes(os.urandom(3 * MIB))
    yield roots[0]
    for root in roots:
        shutil.rmtree(root)


def test_what_somebody_writes_to_is_backed_up_from_a_snapshot(shared: Path, tmp_path: Path) -> None:
    with used(shared / "x.img"):
        [row] = backed_up(shared / "x.img", shared.with_name("backups"))
        assert restored(row["target"], tmp_path / "x") == (shared / "x.img").read_bytes()
        [row] = backed_up(shared / "x.img", shared.with_name("backups"), "--no-snapshot", status=6)
        assert row["target"] is not None
        [row] = backed_up(shared / "x.img", shared.with_name("backups"), "--quiesce", status=11)
        assert "--quiesce" in row["error"]["message"]
    assert [path.name for path in shared.iterdir()] == ["x.img"]


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_running_domain_keeps_the_moment_where_its_place_cannot(
    pool: LibvirtHost, tmp_path: Path, form: str
) -> None:
    disk = pool.disk("web.img")
    if form == "qcow2":
        made = ("qemu-img", "convert", "-O", "qcow2", disk, disk.with_suffix(".qcow2"))
        subprocess.run(pool.inside(*made), check=True)
        disk = disk.with_suffix(".qcow2")
    pool.start("web", disk)
    (pool.images / "backups").mkdir()
    [row] = backed_up(disk, IMAGES / "backups", "--verify", "--quiesce=try")
    assert "not quiesced" in row["warnings"][0]
    contents = restored(pool.images / "backups" / Path(row["target"]).name, tmp_path / "web")
    assert len(contents) == guest.NEEDED + guest.FIRST
    assert guest.is_of_one_moment(contents)
    until_nothing_is_left(pool, "web")


def test_two_disks_of_one_domain_are_backed_up_one_after_the_other(
    pool: LibvirtHost, tmp_path: Path
) -> None:
    disks = [pool.disk(name) for name in ("web.img", "data.img")]
    for name in ("web.img", "data.img"):
        with (pool.images / name).open("r+b") as file:
            file.seek(guest.NEEDED)
            file.write(os.urandom(guest.FIRST))
    pool.start("web", *disks)
    (pool.images / "backups").mkdir()
    # Slow enough that both would be under way at once.
    rows = backed_up(*disks, IMAGES / "backups", "-j", "2", "--bwlimit", "500K")
    assert [row["error"] for row in rows] == [None, None]


def test_the_image_of_a_domain_that_is_shut_off_needs_no_moment(pool: LibvirtHost) -> None:
    disk = pool.disk("web.img")
    pool.define("web", disk)
    (pool.images / "backups").mkdir()
    assert backed_up(disk, IMAGES / "backups", "--quiesce")[0]["error"] is None
