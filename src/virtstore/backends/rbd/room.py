"""How much room a pool has: what the monitors say of it.

Source: ceph(8), `df`. Host tools needed: ceph (Debian: ceph-common).
"""

from __future__ import annotations

from typing import Final

import msgspec

from virtstore.backends.rbd.cluster import Cluster
from virtstore.errors import Error

UNKNOWN: Final = (
    "how much room there is the cluster does not say to this user, or to nobody: without a manager"
    " (ceph-mgr) it does not know"
)


class _Stats(msgspec.Struct, frozen=True):
    stored: int = 0
    max_avail: int = 0


class _Pool(msgspec.Struct, frozen=True):
    name: str
    stats: _Stats = _Stats()


class _Usage(msgspec.Struct, frozen=True):
    pools: tuple[_Pool, ...] = ()


def room(cluster: Cluster) -> tuple[int, int] | None:
    """The bytes of images that a pool has room for, and those of them that are free; None where
    that is not known."""
    try:
        said = msgspec.json.decode(cluster.ask_monitors("df"), type=_Usage)
    except (Error, msgspec.DecodeError):
        return None
    for pool in said.pools:
        if pool.name == cluster.pool and pool.stats.max_avail:
            return pool.stats.stored + pool.stats.max_avail, pool.stats.max_avail
    return None
