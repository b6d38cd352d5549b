"""How much room a pool has, and whether it is full: what the monitors say of it.

Source: ceph(8), `df` and `osd dump`. Host tools needed: ceph (Debian: ceph-common).
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


class _PoolState(msgspec.Struct, frozen=True):
    pool_name: str
    flags_names: str = ""


class _Map(msgspec.Struct, frozen=True):
    flags: str = ""
    pools: tuple[_PoolState, ...] = ()


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


def why_full(cluster: Cluster) -> str:
    """Why nothing can be written to a pool for want of room; "" where there is room. Raises as
    `Cluster.refusal`."""
    return full_in(cluster.ask_monitors("osd", "dump"), cluster.pool)


def full_in(said: bytes, pool: str) -> str:
    """The same, of what `ceph osd dump` said."""
    known = msgspec.json.decode(said, type=_Map)
    flags = {flag for each in known.pools if each.pool_name == pool for flag in _flags(each)}
    remedy = (
        "remove what is not needed there, or let its administrator extend it; then run this again"
    )
    if "full" in known.flags.split(","):
        return f"the cluster is full; {remedy}"
    if "full_quota" in flags:
        return f"the pool {pool} has reached its quota ('ceph osd pool get-quota {pool}'); {remedy}"
    return f"the pool {pool} is full; {remedy}" if "full" in flags else ""


def _flags(pool: _PoolState) -> list[str]:
    return pool.flags_names.split(",")
