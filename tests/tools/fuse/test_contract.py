"""The contract of every store, kept by a directory on a FUSE file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ...contract.every_store import *  # noqa: F403
from ...contract.stores import Subject, directory


@pytest.fixture
def subject(place: Path) -> Iterator[Subject]:
    with directory(str(place)) as subject:
        yield subject
        for found in list(subject.store.scan()):
            if found.state == "complete":
                subject.store.remove(found.name)
            else:
                subject.store.discard(found.name, was_image=True)
