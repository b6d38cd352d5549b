"""Fixtures for tests of buckets; a conftest imports them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from . import fault_proxy, moto_server
from .fault_proxy import Proxy
from .moto_server import Moto
from .s3 import Bucket


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server.running(tmp_path_factory.mktemp("moto") / "log") as server:
        yield server


@pytest.fixture
def bucket(moto: Moto) -> Bucket:
    """A bucket with nothing in it."""
    return moto.bucket(f"vm-{secrets.token_hex(6)}")


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    """On the way to its server."""
    with fault_proxy.between(bucket.at) as between:
        yield between
