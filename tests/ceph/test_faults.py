"""What goes wrong with a cluster: it stops for a while, it allows nothing, it is not there, or
somebody has the image. Each is a clear error or no more than a pause, and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import virtstore
from tests.hosts.sshd import free_port
from tests.tools.ext_images import MIB, TORTURE
from tests.tools.meanwhile import Meanwhile

from . import cluster as ceph
from . import guest, keys, place
from .cluster import POOL, USERS, Cluster
from .place import VMS, Place, noise

#: Seconds for which a daemon does not answer. Who connects to a monitor meanwhile gives up
#: after 15.
_PAUSES: Final = {"osd": 20.0, "mon": 10.0} if TORTURE else {"osd": 3.0, "mon": 3.0}
_SIZE: Final = 12 * MIB


@pytest.fixture
def host(here: Place) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(here.config)) as host:
        yield host


@pytest.fixture
def meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """To be asked for before `host`."""
    return Meanwhile(tmp_path / "unfinished", monkeypatch)


@contextmanager
def paused(cluster: Cluster, daemon: str) -> Iterator[Callable[[], None]]:
    """Gives what stops a daemon, which then goes on by itself; it has when this ends."""
    stopped = cluster.stopped(daemon)
    timer = threading.Timer(_PAUSES[daemon], stopped.__exit__, (None, None, None))

    def stop() -> None:
        stopped.__enter__()
        timer.start()

    yield stop
    assert timer.ident, "it was not stopped"
    timer.join()


@pytest.mark.parametrize(("daemon", "reads"), [("osd", False), ("osd", True), ("mon", False)])
def test_a_copy_goes_on_once_a_daemon_that_was_stopped_answers_again(
    here: Place, meanwhile: Meanwhile, host: virtstore.Host, daemon: str, *, reads: bool
) -> None:
    disk, file = noise(_SIZE, 1), here.root / "x.img"
    if reads:
        source, target = here.image("x", disk), str(file)
    else:
        source, target = str(here.file("x.img", disk)), f"{VMS}/x"
    with paused(here.cluster, daemon) as stop:
        host.image(source).copy(host.image(target), progress=meanwhile(stop, part=0.3))
    assert file.read_bytes() == here.contents("x") == disk
    assert here.names() == ["x"]


def test_an_operation_waits_for_an_osd_that_is_stopped(here: Place, host: virtstore.Host) -> None:
    path = here.image("x", noise(MIB, 1))
    with paused(here.cluster, "osd") as stop:
        stop()
        host.image(path).snapshot("s")
    assert here.snapshots("x") == ["s"]


@pytest.mark.parametrize("user", ["reader", "nobody"])
def test_what_ceph_does_not_permit_is_denied_and_its_user_named(
    cluster: Cluster, tmp_path: Path, user: str
) -> None:
    with place.on(cluster, tmp_path, cluster.user(user).table()) as here:
        here.image("x", disk := noise(MIB, 1))
        new = here.file("new.img", noise(MIB, 2))
        with virtstore.connect(config=str(here.config)) as host:
            x = host.image(f"{VMS}/x")
            for change in (
                lambda: host.create(f"{VMS}/y", MIB),
                lambda: host.image(str(new)).copy(host.image(f"{VMS}/y")),
                lambda: host.image(str(new)).copy_contents(x),
                lambda: x.snapshot("s"),
                lambda: x.rename("y"),
                x.delete,
            ):
                with pytest.raises(virtstore.Denied, match=f"client.{user}|user {user}|'{user}'"):
                    change()
            if user == "reader":  # QEMU writes down who reads, so no copy can be made either
                assert [entry.path for entry in host.list(VMS)] == [x.path]
            else:
                with pytest.raises(virtstore.Denied):
                    host.list(VMS)
        assert here.names() == ["x"]
        assert here.contents("x") == disk


def test_a_key_that_is_not_the_clusters_is_denied(cluster: Cluster, tmp_path: Path) -> None:
    stranger = ceph.User("vms", cluster.user().conf, tmp_path / "keyring")
    stranger.keyring.write_text(keys.keyring("client.vms", keys.new_key(), USERS["vms"]))
    with (
        place.on(cluster, tmp_path, stranger.table()) as here,
        virtstore.connect(config=str(here.config)) as host,
    ):
        for act in (lambda: host.list(VMS), lambda: host.create(f"{VMS}/x", MIB)):
            with pytest.raises(virtstore.Denied):
                act()
        assert here.names() == []


def test_a_cluster_that_does_not_answer_is_an_error_and_no_hang(
    cluster: Cluster, tmp_path: Path
) -> None:
    conf = tmp_path / "ceph.conf"
    conf.write_text(f"[global]\nmon_host = [v2:127.0.0.1:{free_port()}]\n")
    nowhere = ceph.User("vms", conf, cluster.user().keyring)
    with (
        place.on(cluster, tmp_path, nowhere.table()) as here,
        virtstore.connect(config=str(here.config)) as host,
        pytest.raises(virtstore.ConnectionFailed, match="does not answer"),
    ):
        host.list(VMS)


def test_a_pool_that_is_not_there_is_not_found(cluster: Cluster, tmp_path: Path) -> None:
    with (
        place.on(cluster, tmp_path, cluster.user("admin").table("none")) as here,
        virtstore.connect(config=str(here.config)) as host,
    ):
        for act in (
            lambda: host.list("/dev/rbd/none"),
            lambda: host.create("/dev/rbd/none/x", MIB),
        ):
            with pytest.raises(virtstore.NotFound, match="none"):
                act()


def test_an_image_that_ends_within_a_sector_is_refused_with_what_mends_it(
    here: Place, host: virtstore.Host
) -> None:
    path = here.image("odd", noise(MIB + 100, 1))
    even = here.image("even", noise(MIB, 2))
    for act in (
        lambda: host.image(path).copy(host.image(f"{here.root}/copied.img")),
        lambda: host.image(path).verify(),
    ):
        with pytest.raises(virtstore.Unsupported, match="'rbd resize --size 1049088B vms/odd'"):
            act()
    assert host.image(path).info().size == MIB + 100
    found = [each for each in host.list(VMS, long=True) if isinstance(each, virtstore.ImageInfo)]
    listed = {each.path: each.size for each in found}
    assert (listed[path], listed[even]) == (MIB + 100, MIB)
    host.image(path).grow("2M")
    assert host.image(path).info().size == 2 * MIB
    assert here.contents("odd")[: MIB + 100] == noise(MIB + 100, 1)


def test_an_image_that_a_guest_has_open_is_in_use(here: Place, host: virtstore.Host) -> None:
    before = noise(_SIZE, 1)
    x, new = host.image(here.image("x", before)), here.file("new.img", noise(_SIZE, 2))
    with guest.running(here.cluster, f"{POOL}/x", _SIZE):
        assert {each.by for each in x.info().in_use} == {"watcher"}
        for change in (
            lambda: host.image(str(new)).copy_contents(x),
            lambda: host.image(str(new)).copy(x, overwrite=True),
            lambda: x.copy(host.image(str(here.root / "copy.img"))),
            lambda: x.rename("y"),
            lambda: x.shrink(_SIZE // 2),
            x.delete,
        ):
            with pytest.raises(virtstore.InUse) as raised:
                change()
            assert raised.value.exit_status == 6
    assert (here.names(), here.contents("x")) == (["x"], before)
    assert not x.info().in_use
    x.delete()
    assert here.names() == []


def test_a_copy_of_a_running_guests_image_is_as_it_was_at_one_moment(
    here: Place, host: virtstore.Host
) -> None:
    x = host.image(here.image("x", bytes(_SIZE)))
    with guest.running(here.cluster, f"{POOL}/x", _SIZE) as running:
        running.work()
        before = running.written
        x.copy(host.image(str(here.root / "copy.img")), snapshot=True)
        after = running.written
    assert before <= guest.blocks_in((here.root / "copy.img").read_bytes()) <= after + 1
    assert guest.blocks_in(here.contents("x")) == running.written
    assert (here.snapshots("x"), here.names()) == ([], ["x"])
