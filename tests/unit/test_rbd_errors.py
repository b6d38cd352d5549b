"""What Ceph says of a failure is an error of the right kind, which says what to do."""

from __future__ import annotations

import re

import pytest

from virtstore.backends.rbd.cluster import Cluster
from virtstore.errors import (
    ConnectionFailed,
    Denied,
    Error,
    Exists,
    InUse,
    NoSpace,
    NotFound,
    Unsupported,
)
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
        ("rbd: resize error: (30) Read-only file system", 30, Unsupported),
        ("rbd: something else: (22) Invalid argument", 22, Error),
    ],
)
def test_a_failure_is_told_by_its_number(said: str, status: int, kind: type[Error]) -> None:
    found = CLUSTER.refusal(Completed(("rbd",), status, b"", said.encode()))
    assert type(found) is kind
    if kind is not Unsupported:  # which says what that means instead
        assert said.splitlines()[-1].partition(": ")[2] in found.message


def test_a_tool_of_cephs_that_crashed_is_said_to_have() -> None:
    dump = b"Assertion failed\n--- end dump of recent events ---"
    message = CLUSTER.refusal(Completed(("rbd",), -6, b"", dump)).message
    assert message.startswith("rbd ended by signal 6")


def test_who_may_not_is_told_which_capabilities_it_takes() -> None:
    said = Completed(("rbd",), 13, b"", b"rbd: listing images failed: (13) Permission denied")
    message = CLUSTER.refusal(said).message
    for part in ("client.vs", "mon 'profile rbd'", "osd 'profile rbd pool=vms'"):
        assert part in message


_LAST = "rbd: couldn't connect to the cluster!\nrbd: listing images failed: (13) Permission denied"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "global_init: unable to open config file from search list /etc/ceph/ceph.conf",
            "/etc/ceph/ceph.conf cannot be opened",
        ),
        (
            "-1 auth: unable to find a keyring on /etc/ceph/k: (2) No such file or directory\n"
            "-1 monclient(hunting): handle_auth_bad_method server allowed_methods [2] but i only"
            f" support [1]\n{_LAST}",
            r"client.vs cannot be read in /etc/ceph/k \(No such file or directory\)",
        ),
        (
            f"-1 auth: unable to find a keyring on /a,/b,: (13) Permission denied\n{_LAST}",
            r"client.vs cannot be read in /a,/b \(Permission denied\)",
        ),
        (
            "-1 monclient(hunting): handle_auth_bad_method server allowed_methods [2] but i only"
            f" support [2,1]\n{_LAST}",
            "does not know client.vs .*: there is no such user, or it has another key",
        ),
    ],
)
def test_a_host_that_is_not_let_in_is_told_what_it_lacks(said: str, told: str) -> None:
    found = CLUSTER.refusal(Completed(("rbd",), 13, b"", said.encode()))
    assert type(found) is Denied
    assert re.search(told, found.message)
    assert "capabilities" not in found.message
