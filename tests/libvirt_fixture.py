"""Fixtures for tests of running domains; a conftest imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import libvirt_host
from .libvirt_host import LibvirtHost


@pytest.fixture(scope="session")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    if why := libvirt_host.missing():
        pytest.skip(why)
    with libvirt_host.running(tmp_path_factory.mktemp("libvirt")) as host:
        yield host


@pytest.fixture
def libvirt(libvirtd: LibvirtHost) -> Iterator[LibvirtHost]:
    """A host with libvirt, without domains and images before and after."""
    yield libvirtd
    libvirtd.clear()
