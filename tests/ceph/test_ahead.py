"""What is made ready ahead for an image that is about to be read: whoever else has it open is seen
all the same, and nothing of ours has it open any longer than it is read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests import waiting
from virtstore.backends.rbd.cluster import Cluster as Reached
from virtstore.backends.rbd.pool import RbdPool
from virtstore.errors import Denied
from virtstore.transfer.pieces import announced
from virtstore.transfer.sources import RawSource

from . import guest
from .cluster import POOL, Cluster, User
from .place import MIB, Place, noise

_SIZE = 8 * MIB


def pool_of(user: User) -> RbdPool:
    return RbdPool(Reached(POOL, str(user.conf), user.name, str(user.keyring), ""))


@pytest.fixture
def store(cluster: Cluster) -> Iterator[RbdPool]:
    with closing(pool_of(cluster.user())) as store:
        yield store


def watchers(cluster: Cluster, name: str) -> int:
    return len(cluster.json("rbd", "status", f"{POOL}/{name}")["watchers"])


def test_a_daemon_of_ours_is_nobody_else_and_a_guest_beside_it_is(
    here: Place, store: RbdPool
) -> None:
    here.image("x", noise(_SIZE, 1))
    for round in range(3):
        with store.open("x") as image:
            image.announce()
            for _ in range(2 + round):  # it begins to serve somewhen in between
                assert not image.watchers
    with guest.running(here.cluster, f"{POOL}/x", _SIZE), store.open("x") as image:
        image.announce()
        assert image.watchers
        image.read_at(0, MIB)
        assert image.watchers


def test_an_image_that_was_read_whole_is_given_back_before_it_is_closed(
    here: Place, store: RbdPool
) -> None:
    here.image("x", disk := noise(_SIZE, 1))
    with store.open("x") as image:
        image.announce()
        assert image.read_whole(0, _SIZE) == disk
        assert watchers(here.cluster, "x") == 1
        image.check()
        waiting.until(lambda: not watchers(here.cluster, "x"), "the daemon's end")
        assert image.read_whole(MIB, MIB) == disk[MIB : 2 * MIB]
    assert watchers(here.cluster, "x") == 0


def test_what_the_guest_wrote_up_to_its_end_is_where_data_is(here: Place, store: RbdPool) -> None:
    here.cluster.rbd("create", f"{POOL}/x", "--size", f"{_SIZE}B")
    with store.open("x") as image:
        with guest.running(here.cluster, f"{POOL}/x", _SIZE) as writer:
            image.announce()
            assert image.watchers
            writer.write(3)
        waiting.until(lambda: not image.watchers, "the guest to go")
        data = [extent for extent in image.extents() if extent.kind == "data"]
        assert any(extent.offset <= writer.place(3) < extent.end for extent in data)


def test_what_fails_ahead_is_told_to_whoever_reads(here: Place) -> None:
    here.image("x", noise(MIB, 1))
    with closing(pool_of(here.cluster.user("reader"))) as store, store.open("x") as image:
        image.announce()
        with pytest.raises(Denied):
            image.read_at(0, MIB)
    with closing(pool_of(here.cluster.user("reader"))) as store, store.open("x") as image:
        image.announce()  # and is not read


def test_a_copy_reads_faster_than_one_block_after_the_other_where_the_cluster_is_far(
    here: Place, store: RbdPool
) -> None:
    size = 6 * _SIZE
    here.image("x", disk := noise(size, 1))
    with far_away(here.cluster), store.open("x") as one, store.open("x") as other:

        def by_itself() -> None:
            read = [one.read_at(offset, MIB) for offset in range(0, size, MIB)]
            assert b"".join(read) == disk

        def as_a_copy() -> None:
            pieces = announced(RawSource(other, size).pieces())
            assert b"".join(piece.contents() for piece in pieces) == disk

        for image in (one, other):
            image.read_at(0, 1)  # from now on it is served
        ratios = [seconds(as_a_copy) / seconds(by_itself) for _ in range(3)]
    assert statistics.median(ratios) < 1, ratios


@contextmanager
def far_away(cluster: Cluster) -> Iterator[None]:
    cluster.delay(0.04)
    try:
        yield
    finally:
        cluster.delay(0)


def seconds(act: Callable[[], None]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun
