"""What tests in the lab may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

from ..hosts import Hosts, two_hosts
from .shell import CONFIGURATION, sh


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts, `a` and `b`, with an empty configuration each."""
    with two_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def vg0() -> None:
    """A volume group of 240 MiB, /mnt/images, and a configuration that allows both here."""
    sh("pvcreate -qq --setphysicalvolumesize 244M /dev/ubda && vgcreate -qq vg0 /dev/ubda")
    sh("mkdir -p /mnt/images /etc/virtstore")
    Path("/etc/virtstore/config.toml").write_text(CONFIGURATION)


@pytest.fixture(scope="module")
def session(vg0: None) -> Iterator[virtstore.Host]:
    """This machine, by one agent for all of a file's tests."""
    with virtstore.connect("local:") as here:
        yield here


@pytest.fixture
def here(session: virtstore.Host) -> Iterator[virtstore.Host]:
    """The same; what a test leaves in vg0 or /mnt/images is removed."""
    yield session
    sh("rm -rf /mnt/images/* && lvremove -qq -y vg0")
