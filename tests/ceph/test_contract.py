"""The contract of every store, kept by a pool of a cluster, as a restricted user has it. Each step
of it is a program that connects to the cluster: so `make torture` runs the whole contract, and
`make test` what it says of images and of snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.tools.ext_images import TORTURE
from virtstore.backends.rbd.cluster import Cluster as Reached
from virtstore.backends.rbd.pool import RbdPool

from ..contract.stores import Subject
from ..contract.stores import store as store
from ..contract.test_backends import *  # noqa: F403
from ..contract.test_backends_rework import (  # noqa: F401
    test_an_image_that_somebody_renamed_is_not_written_nor_what_has_its_name_now,
)
from ..contract.test_backends_snapshots import *  # noqa: F403
from .cluster import POOL, Cluster

if TORTURE:
    from ..contract.every_store import *  # noqa: F403


@pytest.fixture
def subject(cluster: Cluster) -> Iterator[Subject]:
    user = cluster.user()
    reached = Reached(POOL, str(user.conf), user.name, str(user.keyring), "")
    with closing(RbdPool(reached)) as store:
        yield Subject(store, lambda: RbdPool(reached), type="rbd")
