"""The cluster itself: it does what the ring's tests count on, and none is left."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.waiting import PATIENCE, until

from . import cluster as ceph
from . import guest
from .cluster import POOL, Cluster, Failed
from .gateway import Gateway
from .place import Place, noise

_CHECKOUT = Path(__file__).resolve().parents[2]
#: Starts a cluster, says so, and waits to be killed.
_STARTER = """
import sys, time
from pathlib import Path
from tests.ceph.cluster import running
with running(Path(sys.argv[1])) as cluster:
    print(*(process.pid for process in cluster.processes.values()), flush=True)
    time.sleep(600)
"""


def test_a_restricted_user_has_its_pool_and_no_other(cluster: Cluster) -> None:
    cluster.rbd("create", f"{POOL}/x", "--size", "1M", user="vms")
    assert cluster.json("rbd", "ls", POOL, user="reader") == ["x"]
    cluster.make_pool("other")
    for user, pool in (("vms", "other"), ("reader", POOL), ("nobody", POOL)):
        with pytest.raises(Failed, match="not permitted"):
            cluster.rbd("create", f"{pool}/y", "--size", "1M", user=user)


def test_a_stopped_osd_answers_later_and_a_pools_quota_is_seen(cluster: Cluster) -> None:
    with cluster.stopped("osd"):
        waits = subprocess.Popen(
            ["rbd", "--conf", str(cluster.conf), "create", f"{POOL}/x", "--size", "9M"]
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waits.wait(1)
    assert waits.wait(PATIENCE) == 0
    cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "1000000")
    cluster.rbd("bench", f"{POOL}/x", "--io-type", "write", "--io-total", "2M")
    ceph.wait_for_room(cluster, full=True)
    cluster.ceph("osd", "pool", "set-quota", POOL, "max_bytes", "0")
    ceph.wait_for_room(cluster, full=False)
    assert cluster.room() > 0


def test_a_guest_writes_one_block_after_the_other(here: Place) -> None:
    size = 8 << 20
    here.image("x", bytes(size))
    with guest.running(here.cluster, f"{POOL}/x", size) as running:
        watchers = here.cluster.json("rbd", "status", f"{POOL}/x")["watchers"]
        for n in range(3):
            running.write(n)
    assert len(watchers) == 1
    assert guest.blocks_in(here.contents("x")) == 3
    with pytest.raises(AssertionError, match="an earlier one is not"):
        guest.blocks_in(bytes(guest.BLOCK) + here.contents("x")[guest.BLOCK :])
    assert here.contents("x") != noise(size, 1)


def test_the_gateway_serves_nobody_without_a_key(gateway: Gateway) -> None:
    asked = http.client.HTTPConnection(urlsplit(gateway.endpoint).netloc, timeout=PATIENCE)
    asked.request("PUT", "/bucket")
    assert asked.getresponse().status == 403
    asked.close()


def test_a_cluster_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _STARTER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        daemons = [int(pid) for pid in starter.stdout.readline().split()]
        assert len(daemons) == 3
        starter.kill()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in daemons), "its daemons' end")
