"""A pool that is full, by its quota: nothing hangs there, and everybody is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

import virtstore
from tests import waiting
from tests.tools import kills
from tests.tools.ext_images import MIB, TORTURE
from tests.tools.meanwhile import Meanwhile

from . import cluster as ceph
from . import place
from .cluster import POOL, Cluster
from .place import VMS, Place, noise

_SIZE: Final = 12 * MIB


@pytest.fixture
def meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """To be asked for before `host`."""
    return Meanwhile(tmp_path / "unfinished", monkeypatch)


@pytest.fixture
def small(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    """A pool with a quota of a few MiB."""
    with place.on(cluster, tmp_path) as here:
        ceph.wait_for_nothing(cluster)
        cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", str(8 * MIB))
        yield here
        cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "0")
        ceph.wait_for_room(cluster, full=False)


def test_a_copy_in_the_middle_of_which_there_is_no_room_says_so_and_goes_on_once_there_is(
    small: Place, meanwhile: Meanwhile
) -> None:
    disk = noise(2 * _SIZE, 1)
    source = small.file("x.img", disk)

    def fill() -> None:
        small.image("other", noise(9 * MIB, 2))
        ceph.wait_for_room(small.cluster, full=True)

    with virtstore.connect(config=str(small.config)) as host:
        with pytest.raises(virtstore.NoSpace, match="quota"):
            host.image(str(source)).copy(host.image(f"{VMS}/x"), progress=meanwhile(fill, part=0.3))
        small.cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "0")
        ceph.wait_for_room(small.cluster, full=False)
        small.cluster.rbd("rm", "--no-progress", f"{POOL}/other")
        assert [entry.state for entry in host.list(VMS)] == ["partial"]
    if TORTURE:  # Ceph counts who was ended as a writer for half a minute more
        kills.patiently(
            small.config, lambda host: host.image(str(source)).copy(host.image(f"{VMS}/x"))
        )
        assert small.contents("x") == disk
        assert small.names() == ["x"]


def fill_and_kill(small: Place, agent: int) -> list[int]:
    """Fill the pool, and kill the agent; what it leaves."""
    small.image("other", noise(9 * MIB, 2))
    ceph.wait_for_room(small.cluster, full=True)
    left = kills.children(agent)
    os.kill(agent, signal.SIGKILL)
    return left


def await_end(left: list[int]) -> None:
    assert left
    waiting.until(lambda: not any(Path(f"/proc/{each}").exists() for each in left), "their end")


def test_what_serves_an_image_ends_after_a_kill_of_its_agent_though_the_pool_is_full(
    small: Place, meanwhile: Meanwhile
) -> None:
    source = small.file("x.img", noise(2 * _SIZE, 1))
    left: list[int] = []

    def act() -> None:
        left.extend(fill_and_kill(small, kills.agent_of(host).pid))

    with virtstore.connect(config=str(small.config)) as host:
        image, copied = host.image(str(source)), host.image(f"{VMS}/x")
        with pytest.raises(virtstore.ConnectionFailed):
            image.copy(copied, progress=meanwhile(act, part=0.3))
    await_end(left)


def test_a_tool_that_outlives_its_agent_ends_too_though_the_pool_is_full(
    small: Place, ext4: Path
) -> None:
    small.cluster.rbd("import", "--no-progress", ext4, f"{POOL}/x")
    small.cluster.rbd("resize", "--no-progress", "--size", "512M", f"{POOL}/x")

    def grow(host: virtstore.Host) -> None:
        host.image(f"{VMS}/x").growfs()

    with ThreadPoolExecutor() as pool, virtstore.connect(config=str(small.config)) as host:
        growing = pool.submit(grow, host)
        with stopped("resize2fs", kills.agent_of(host).pid):
            left = fill_and_kill(small, kills.agent_of(host).pid)
        assert isinstance(growing.exception(), virtstore.ConnectionFailed)
    await_end(left)
    if TORTURE:  # Ceph counts who was ended as a writer for half a minute more
        small.cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "0")
        ceph.wait_for_room(small.cluster, full=False)
        kills.patiently(small.config, grow)
        with virtstore.connect(config=str(small.config)) as host:
            found = host.image(f"{VMS}/x").info().filesystem
        assert found
        assert found.size == 512 * MIB


@contextmanager
def stopped(tool: str, agent: int) -> Iterator[None]:
    """A tool of an agent's is held up as soon as it runs, and goes on when this ends."""
    process = 0

    def begins() -> bool:
        nonlocal process
        for process in kills.children(agent):
            with suppress(OSError):  # it has ended
                if Path(f"/proc/{process}/comm").read_text().strip() == tool:
                    os.kill(process, signal.SIGSTOP)
                    return True
        return False

    waiting.until(begins, tool)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.fixture
def full(small: Place) -> Iterator[tuple[Place, virtstore.Host]]:
    """A pool that is full, with an image x that nobody can write to."""
    small.image("x", noise(9 * MIB, 3))
    ceph.wait_for_room(small.cluster, full=True)
    with virtstore.connect(config=str(small.config)) as host:
        yield small, host


def test_nothing_hangs_where_a_pool_is_full_and_nothing_there_is_lost(
    full: tuple[Place, virtstore.Host],
) -> None:
    here, host = full
    x, source = host.image(f"{VMS}/x"), here.file("new.img", noise(MIB, 4))
    assert [entry.path for entry in host.list(VMS)] == [x.path]
    changes: tuple[Callable[[], object], ...] = (
        lambda: host.create(f"{VMS}/y", MIB),
        lambda: host.image(str(source)).copy_contents(x),
        lambda: x.copy(host.image(str(here.root / "copy.img"))),
        lambda: x.rename("y"),
        x.delete,  # for which Ceph writes something down
    )
    with ThreadPoolExecutor() as pool:  # each waits for a while, before it is seen why
        told = [pool.submit(change).exception() for change in changes]
    assert all(isinstance(each, virtstore.NoSpace) for each in told), told
    assert all("quota" in str(each) for each in told)
    assert here.names() == ["x"]
    here.cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "0")
    ceph.wait_for_room(here.cluster, full=False)
    assert here.contents("x") == noise(9 * MIB, 3)
    x.delete()
    assert here.names() == []
