"""What Ceph says of a failure is an error of the right kind, which says what to do."""

from __future__ import annotations

import pytest

from virtstore.backends.rbd.cluster import Cluster
from virtstore.errors import ConnectionFailed, Denied, Error, Exists, InUse, NoSpace, NotFound
from virtstore.run import Completed

CLUSTER = Cluster("vms", "/etc/ceph/ceph.conf", "vs", "", "")


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ("rbd: error opening image x: (2) No such file or directory", 2, NotFound),
        ("rbd: create error: (17) File exists", 17, Exists),
        ("rbd: error: image still has watchers", 16, InUse),
        ("rbd: image has snapshots - these must be deleted", 39, InUse),
        ("rbd: listing images failed: (13) Permission denied", 13, Denied),
        ("rbd: error opening image x: (1) Operation not permitted", 1, Denied),
        ("failed to add image to trash: (122) Disk quota exceeded\\n(2) No such file", 2, NoSpace),
        ("rbd: listing images failed: (110) Connection timed out", 110, ConnectionFailed),
        ("rbd: unrecognised option '--image-id'", 1, Error),
        ("rbd: something else: (22) Invalid argument", 22, Error),
    ],
)
def test_a_failure_is_told_by_its_number(said: str, status: int, kind: type[Error]) -> None:
    found = CLUSTER.refusal(Completed(("rbd",), status, b"", said.encode()))
    assert type(found) is kind
    assert said.splitlines()[-1].partition(": ")[2] in found.message


def test_who_may_not_is_told_which_capabilities_it_takes() -> None:
    said = Completed(("rbd",), 13, b"", b"rbd: listing images failed: (13) Permission denied")
    message = CLUSTER.refusal(said).message
    for part in ("client.vs", "mon 'profile rbd'", "osd 'profile rbd pool=vms'"):
        assert part in message
