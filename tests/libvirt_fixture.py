"""Fixtures for tests of running domains; a conftest imports them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import libvirt_host
from .libvirt_host import IMAGES, LibvirtHost


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


@pytest.fixture
def pool(libvirt: LibvirtHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LibvirtHost:
    """The same, and commands start their agent there, which may change libvirt's pool."""
    config = tmp_path / "pool.toml"
    config.write_text(f'[[directory]]\npath = "{IMAGES}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_AGENT", libvirt.agent("--config", config))
    return libvirt


@pytest.fixture
def web(pool: LibvirtHost) -> Path:
    """The disk of the domain web, which runs and writes to it."""
    disk = pool.disk("web.img")
    pool.start("web", disk)
    pool.wait_for_writes("web.img")
    return disk
