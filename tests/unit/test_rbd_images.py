"""The listing of a pool is kept until something changes, whoever else lists meanwhile."""

from __future__ import annotations

import json

import pytest

from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.images import Images
from virtstore.run import Completed


def test_what_was_listed_while_something_changed_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["draft", "web"]

    def answer(cluster: Cluster, *words: str) -> Completed:
        listed = [{"image": names.pop(0), "id": "10", "size": 4096, "format": 2}]
        if names:
            images.refresh()  # another thread renames it
        return Completed(words, 0, json.dumps(listed).encode(), b"")

    monkeypatch.setattr(Cluster, "answer", answer)
    images = Images(Cluster("vms", "ceph.conf", "admin", "", ""))
    assert [each.name for each in images.all()] == ["draft"]
    assert [each.name for each in images.all()] == ["web"]
    assert [each.name for each in images.all()] == ["web"]
