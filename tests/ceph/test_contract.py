"""The contract of every store, kept by a pool of a cluster, as a restricted user has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from virtstore.backends.rbd.cluster import Cluster as Reached
from virtstore.backends.rbd.pool import RbdPool

from ..contract.every_store import *  # noqa: F403
from ..contract.stores import Subject
from .cluster import POOL, Cluster


@pytest.fixture
def subject(cluster: Cluster) -> Iterator[Subject]:
    user = cluster.user()
    reached = Reached(POOL, str(user.conf), user.name, str(user.keyring), "")
    with closing(RbdPool(reached)) as store:
        yield Subject(store, lambda: RbdPool(reached), snapshots=True, type="rbd")
