"""The pages that name a pool do what they show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import pages, shown
from .cluster import Cluster


@pytest.fixture
def reader(cluster: Cluster, tmp_path: Path) -> Iterator[pages.Place]:
    """Somebody who administers the cluster from his machine."""
    with pages.place(tmp_path, with_hosts=False) as where:
        (where.home / "etc/ceph").mkdir()
        shutil.copy(cluster.conf, where.home / "etc/ceph/ceph.conf")
        yield where
    cluster.ceph("auth", "rm", "client.virtstore")


@pytest.mark.parametrize("page", shown.of_ring("ceph"), ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(page: Path, reader: pages.Place) -> None:
    pages.check_in(page, reader)
