"""Images as others make them by `rbd`: each is shown, or refused in words that help, and none of
them keeps anybody from the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import virtstore

from . import place
from .cluster import POOL, Cluster
from .place import MIB, VMS, Place, noise

_SIZE: Final = 4 * MIB


@pytest.fixture
def other(cluster: Cluster) -> Iterator[str]:
    """A pool of images that the user of `here` may not use."""
    cluster.make_pool("golden")
    yield "golden"
    cluster.empty(POOL)
    cluster.ceph("osd", "pool", "delete", "golden", "golden", "--yes-i-really-really-mean-it")


@pytest.fixture
def host(here: Place) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(here.config)) as host:
        yield host


def test_an_image_of_no_bytes_keeps_nobody_from_a_listing(
    here: Place, host: virtstore.Host
) -> None:
    here.cluster.rbd("create", f"{POOL}/zero", "--size", "0")
    here.image("cut", noise(_SIZE, 1))
    here.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/cut@whole")
    here.cluster.rbd("resize", "--no-progress", "--allow-shrink", "--size", "0", f"{POOL}/cut")
    told = [info for info in host.list(VMS, long=True) if isinstance(info, virtstore.ImageInfo)]
    found = {info.path.removeprefix(f"{VMS}/"): info for info in told}
    assert [(name, info.size, info.allocated) for name, info in sorted(found.items())] == [
        ("cut", 0, _SIZE),
        ("cut@whole", _SIZE, _SIZE),
        ("zero", 0, 0),
    ]
    assert host.image(f"{VMS}/zero").grow("4M").size == _SIZE


def test_a_clone_whose_parent_may_not_be_read_is_listed_and_refused_by_name(
    here: Place, host: virtstore.Host, other: str
) -> None:
    here.image("a", noise(_SIZE, 1))
    _clone(here.cluster, other, "zz")  # `rbd ls` comes to it last, and fails as it did
    for long in (False, True):
        assert [each.path for each in host.list(VMS, long=long)] == [f"{VMS}/a", f"{VMS}/zz"]
    for act in (host.image(f"{VMS}/zz").info, host.image(f"{VMS}/zz").delete):
        with pytest.raises(virtstore.Denied, match="parent"):
            act()


def test_a_clone_is_read_by_whoever_may_read_its_parent(
    cluster: Cluster, tmp_path: Path, other: str
) -> None:
    disk = _clone(cluster, other, "zz")
    osd = f"profile rbd pool={POOL}, profile rbd-read-only pool={other}"
    user = cluster.add_user("cloner", {"mon": "profile rbd", "osd": osd})
    with place.on(cluster, tmp_path, user.table()) as here:
        with virtstore.connect(config=str(here.config)) as host:
            host.image(f"{VMS}/zz").copy(host.image(f"{here.root}/x.img"))
        assert (here.root / "x.img").read_bytes() == disk


def test_contents_in_a_pool_that_may_not_be_used_are_neither_read_nor_left_there(
    here: Place, host: virtstore.Host, other: str
) -> None:
    here.cluster.rbd("create", f"{POOL}/x", "--size", "4M", "--data-pool", other)
    here.cluster.rbd("bench", "--io-type", "write", "--io-total", "64K", f"{POOL}/x")
    source = here.file("new.img", noise(_SIZE, 1))
    image = host.image(f"{VMS}/x")
    for act in (
        image.delete,
        lambda: image.copy(host.image(f"{here.root}/x.img")),
        lambda: host.image(str(source)).copy(image, overwrite=True),
    ):
        with pytest.raises(virtstore.Denied, match="data"):
            act()
    assert here.names() == ["x"]


def test_what_replaces_an_image_lies_in_the_pool_and_in_objects_as_that_did(
    cluster: Cluster, tmp_path: Path, other: str
) -> None:
    layout = ("--object-size", "64K", "--stripe-unit", "4K", "--stripe-count", "2")
    cluster.rbd("create", f"{POOL}/x", "--size", "4M", "--data-pool", other, *layout)
    osd = f"profile rbd pool={POOL}, profile rbd pool={other}"
    user = cluster.add_user("both", {"mon": "profile rbd", "osd": osd})
    disk = noise(_SIZE, 1)
    with place.on(cluster, tmp_path, user.table()) as here:
        source = here.file("new.img", disk)
        with virtstore.connect(config=str(here.config)) as host:
            host.image(str(source)).copy(host.image(f"{VMS}/x"), overwrite=True)
        told = cluster.json("rbd", "info", f"{POOL}/x")
        assert [
            told[key] for key in ("data_pool", "object_size", "stripe_unit", "stripe_count")
        ] == [other, 64 << 10, 4 << 10, 2]
        assert here.contents("x") == disk


def test_whoever_has_locked_an_image_by_hand_uses_it(here: Place, host: virtstore.Host) -> None:
    here.image("x", noise(_SIZE, 1))
    here.cluster.rbd("lock", "add", f"{POOL}/x", "for-the-audit")
    image = host.image(f"{VMS}/x")
    assert "for-the-audit" in image.info().in_use[0].detail
    with pytest.raises(virtstore.InUse, match="for-the-audit"):
        image.delete()  # `rbd rm` would wait for the lock
    with pytest.raises(virtstore.Unsupported, match="rbd lock rm"):
        image.snapshot("s")


def test_a_mirror_of_another_clusters_image_is_read_only(here: Place, host: virtstore.Host) -> None:
    disk = noise(_SIZE, 1)
    here.image("x", disk)
    with _mirrored(here.cluster, "x"):
        here.cluster.rbd("mirror", "image", "demote", f"{POOL}/x")
        image, copy = host.image(f"{VMS}/x"), host.image(f"{here.root}/x.img")
        image.copy(copy)
        assert (here.root / "x.img").read_bytes() == disk
        with pytest.raises(virtstore.InUse, match="mirror"):
            image.delete()
        with pytest.raises(virtstore.InUse, match="mirror"):
            copy.copy(image, overwrite=True)
        for change in (lambda: image.grow("8M"), lambda: image.snapshot("s")):
            with pytest.raises(virtstore.Unsupported, match="promote"):
                change()
    assert here.names() == ["x"]


def test_a_mirror_with_a_journal_is_said_to_be_one_where_it_cannot_be_read(
    here: Place, host: virtstore.Host
) -> None:
    here.image("x", noise(_SIZE, 1))
    here.cluster.rbd("feature", "enable", f"{POOL}/x", "journaling")
    image, copy = host.image(f"{VMS}/x"), host.image(f"{here.root}/x.img")
    with _mirrored(here.cluster, "x", "journal"):
        image.copy(copy)
        here.cluster.rbd("mirror", "image", "demote", f"{POOL}/x")
        told = r"mirroring primary: false.*promote"
        with pytest.raises(virtstore.Denied, match=told):
            image.copy(copy, overwrite=True)
        with pytest.raises(virtstore.Denied, match=told):
            copy.copy_contents(image)
        [warning] = image.info().warnings
        assert "mirroring primary: false" in warning
    assert here.names() == ["x"]


def test_an_image_that_is_mirrored_is_changed_but_not_replaced(
    here: Place, host: virtstore.Host
) -> None:
    disk = noise(_SIZE, 2)
    here.image("x", noise(_SIZE, 1))
    image, new = host.image(f"{VMS}/x"), host.image(str(here.file("new.img", disk)))
    with _mirrored(here.cluster, "x"):
        with pytest.raises(virtstore.InUse, match="copy-contents"):
            new.copy(image, overwrite=True)
        new.copy_contents(image)
        assert here.contents("x") == disk
        image.delete()
    assert here.names() == []


def test_what_ceph_would_not_remove_is_not_put_aside_either(
    here: Place, host: virtstore.Host
) -> None:
    rbd = here.cluster.rbd
    for name in ("grouped", "parent", "moved"):
        here.image(name, noise(_SIZE, 1))
    rbd("group", "create", f"{POOL}/g")
    rbd("group", "image", "add", f"{POOL}/g", f"{POOL}/grouped")
    rbd("snap", "create", "--no-progress", f"{POOL}/parent@s")
    clone = ("clone", "--rbd-default-clone-format", "2")
    rbd(*clone, f"{POOL}/parent@s", f"{POOL}/clone")
    rbd("snap", "rm", "--no-progress", f"{POOL}/parent@s")
    rbd("migration", "prepare", f"{POOL}/moved", f"{POOL}/moving")
    new = host.image(str(here.file("new.img", noise(_SIZE, 2))))
    for name, why in (("grouped", "group"), ("parent", "lie over"), ("moving", "migrated")):
        with pytest.raises(virtstore.InUse, match=why):
            new.copy(host.image(f"{VMS}/{name}"), overwrite=True)
        with pytest.raises(virtstore.InUse, match=why):
            host.image(f"{VMS}/{name}").delete(with_snapshots=True)
    assert here.names() == ["clone", "grouped", "moving", "parent"]
    rbd("migration", "abort", "--no-progress", f"{POOL}/moving")


def _clone(cluster: Cluster, pool: str, name: str) -> bytes:
    """An image over one of another pool; its contents."""
    disk = noise(_SIZE, 3)
    path = cluster.directory / "golden.img"
    path.write_bytes(disk)
    cluster.rbd("import", "--no-progress", path, f"{pool}/golden")
    path.unlink()
    cluster.rbd("snap", "create", "--no-progress", f"{pool}/golden@s")
    cluster.rbd("snap", "protect", f"{pool}/golden@s")
    cluster.rbd("clone", f"{pool}/golden@s", f"{POOL}/{name}")
    return disk


@contextlib.contextmanager
def _mirrored(cluster: Cluster, name: str, way: str = "snapshot") -> Iterator[None]:
    """An image is mirrored, for as long as there is one."""
    cluster.rbd("mirror", "pool", "enable", POOL, "image")
    cluster.rbd("mirror", "image", "enable", f"{POOL}/{name}", way)
    yield
    if name in cluster.json("rbd", "ls", POOL):
        cluster.rbd("mirror", "image", "disable", "--force", f"{POOL}/{name}")
    cluster.rbd("mirror", "pool", "disable", POOL)


@pytest.mark.parametrize("name", ["with space", "ünïcode", "100%", "-dash", "l" * 200])
def test_an_image_that_we_would_call_otherwise_is_worked_with(
    here: Place, host: virtstore.Host, name: str
) -> None:
    here.image(name, noise(_SIZE, 1))
    image = host.image(f"{VMS}/{name}")
    assert image.snapshot("s1").path == f"{VMS}/{name}@s1"
    image.copy(host.image(f"{here.root}/x.img"), snapshot=True)
    assert (here.root / "x.img").read_bytes() == noise(_SIZE, 1)
    assert image.grow("8M").size == 8 * MIB
    host.image(str(here.file("new.img", noise(_SIZE, 2)))).copy_contents(image)
    assert here.contents(name) == noise(_SIZE, 2).ljust(8 * MIB, b"\0")
    image.delete(with_snapshots=True)
    assert here.names() == []


def test_clean_names_what_has_snapshots_and_says_how_it_is_removed(
    here: Place, host: virtstore.Host
) -> None:
    for name in ("web.virtstore-rework", "new.virtstore-partial", "old.virtstore-partial"):
        here.cluster.rbd("create", f"{POOL}/{name}", "--size", "4M")
    here.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/web.virtstore-rework@s1")
    here.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/new.virtstore-partial@s1")
    dry = host.clean(VMS, dry_run=True)
    assert f"{VMS}/web" not in dry.removed
    found = host.clean(VMS)
    assert found.removed == (f"{VMS}/old",)
    new, web = found.warnings
    assert new.startswith(f"{VMS}/new stays: ")
    assert f"'rbd snap purge {POOL}/new.virtstore-partial'" in new
    assert web.startswith(f"{VMS}/web stays: snapshots depend on it ({VMS}/web@s1)")
    assert "'virtstore delete --with-snapshots'" in web
    with pytest.raises(virtstore.InUse, match="--with-snapshots"):
        host.clean(f"{VMS}/web")
    host.image(f"{VMS}/web").delete(with_snapshots=True)
    here.cluster.rbd("snap", "purge", "--no-progress", f"{POOL}/new.virtstore-partial")
    assert host.clean(VMS).removed == (f"{VMS}/new",)
    assert here.names() == []
