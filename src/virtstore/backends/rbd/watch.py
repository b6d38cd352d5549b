"""The process that removes a snapshot of RBD's once its agent is gone (backends/guard.py)."""

from __future__ import annotations

import sys

import msgspec

from virtstore.backends.guard import watch
from virtstore.backends.rbd.cluster import Cluster
from virtstore.backends.rbd.pool import RbdPool


def main() -> None:
    cluster, image, snapshot = sys.argv[1:]
    pool = RbdPool(msgspec.json.decode(cluster, type=Cluster))
    watch(lambda: pool.drop(image, snapshot))


if __name__ == "__main__":
    main()
