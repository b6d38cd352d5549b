"""The `ceph` ring: a cluster, images in its pool, and whoever uses them from a host.

Where its packages are not installed, the ring is skipped, and the end of the run says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..hosts.conftest import a, all_hosts, b, client, ext4, hosts  # noqa: F401
from ..libvirt_fixture import libvirt, libvirtd  # noqa: F401
from . import cluster as ceph
from . import gateway as rgw
from . import place
from .cluster import POOL, Cluster
from .gateway import Gateway
from .place import Place


def pytest_runtest_setup(item: pytest.Item) -> None:
    if lacking := ceph.missing():
        pytest.skip(f"the ceph ring needs: apt-get install {' '.join(lacking)}")


@pytest.fixture(scope="session")
def all_of_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ceph.running(tmp_path_factory.mktemp("ceph")) as cluster:
        yield cluster


@pytest.fixture
def cluster(all_of_ceph: Cluster) -> Iterator[Cluster]:
    """A cluster whose pool is empty, before and after."""
    yield all_of_ceph
    all_of_ceph.empty(POOL)


@pytest.fixture(scope="session")
def gateway(all_of_ceph: Cluster) -> Iterator[Gateway]:
    """An S3 server of that cluster, and a user of it."""
    if lacking := rgw.missing():
        pytest.skip(f"this needs: apt-get install {' '.join(lacking)}")
    with rgw.serving(all_of_ceph) as gateway:
        yield gateway


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    """This machine as a host: a directory, and the pool as a restricted user has it."""
    with place.on(cluster, tmp_path) as here:
        yield here
