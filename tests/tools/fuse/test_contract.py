"""The contract of every store, kept by a directory on a FUSE file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.backends.base import Store

from ...contract.stores import directory
from ...contract.test_backends import *  # noqa: F403
from ...contract.test_backends_changes import *  # noqa: F403


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    with directory(str(place)) as store:
        yield store
        for found in list(store.scan()):
            if found.state == "complete":
                store.remove(found.name)
            else:
                store.discard(found.name)
