"""What Ceph's programs say becomes values, and what is none of that an error that says so."""

from __future__ import annotations

import json

import pytest

from virtstore.backends.rbd import connection, report
from virtstore.backends.rbd.report import Listed, Parent, Snapshot, Watcher
from virtstore.errors import Error
from virtstore.model import Extent

LISTED = [
    {"image": "web", "id": "10", "size": 4096, "format": 2, "lock_type": "exclusive"},
    {
        "image": "web",
        "id": "10",
        "snapshot": "s1",
        "snapshot_id": 4,
        "size": 2048,
        "protected": "true",
    },
    {
        "image": "web",
        "id": "10",
        "snapshot": "s2",
        "snapshot_id": 5,
        "size": 4096,
        "protected": "false",
    },
    {
        "image": "clone",
        "id": "11",
        "size": 2048,
        "parent": {"pool": "vms", "pool_namespace": "", "image": "web", "snapshot": "s1"},
        "format": 2,
    },
]


def _said(document: object) -> bytes:
    return json.dumps(document).encode()


def test_images_are_listed_with_their_snapshots_and_what_they_lie_over() -> None:
    snapshots = Snapshot("s1", 4, 2048, True), Snapshot("s2", 5, 4096, False)
    assert report.listing(_said(LISTED)) == (
        Listed("web", "10", 4096, None, snapshots, locked=True),
        Listed("clone", "11", 2048, Parent("vms", "", "web", "s1")),
    )


def test_an_image_of_which_a_crash_left_the_name_is_listed_as_broken() -> None:
    complaint = b"rbd: error opening web.virtstore-partial: (2) No such file or directory\n"
    other = b"rbd: error opening secret: (1) Operation not permitted\n"
    last = b"rbd: listing images failed: (1) Operation not permitted\n"
    secret, left = report.listing(b"[]", complaint + other + last)
    assert (left.name, left.broken, left.refused) == ("web.virtstore-partial", True, "")
    assert (secret.name, secret.broken) == ("secret", False)
    assert secret.refused == "(1) Operation not permitted"


def test_a_lock_that_was_taken_by_hand_is_told_from_one_that_ceph_took() -> None:
    said = [
        {"id": "auto 1403", "locker": "client.41", "address": "10.0.0.1:0/7"},
        {"id": "for the audit", "locker": "client.42", "address": "10.0.0.2:0/8"},
    ]
    [found] = report.locks(_said(said))
    assert found == Watcher("10.0.0.2:0/8", 42, "for the audit")
    assert "'for the audit'" in found.detail


def test_whoever_has_an_image_open_is_told_by_address_and_number() -> None:
    said = {"watchers": [{"address": "192.0.2.7:0/31", "client": 4123, "cookie": 9}]}
    [found] = report.watchers(_said(said))
    assert found == Watcher("192.0.2.7:0/31", 4123)
    assert found.detail == "client.4123 at 192.0.2.7:0/31"


def test_what_an_image_takes_is_known_by_image_and_snapshot() -> None:
    rows = [
        {"name": "web", "id": "10", "snapshot": "s1", "provisioned_size": 9, "used_size": 5},
        {"name": "web", "id": "10", "provisioned_size": 9, "used_size": 3},
    ]
    found = report.usage(_said({"images": rows, "total_used_size": 8}))
    assert found == {("web", "s1"): 5, ("web", ""): 3}


def test_an_image_without_metadata_has_none() -> None:
    assert report.metadata(b"") == {}
    assert report.metadata(b'{"virtstore.lost":"gpt:1"}') == {"virtstore.lost": "gpt:1"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], [(0, 100, "zero")]),
        ([(0, 100)], [(0, 100, "data")]),
        (
            [(10, 20), (50, 50)],
            [(0, 10, "zero"), (10, 20, "data"), (30, 20, "zero"), (50, 50, "data")],
        ),
        ([(90, 64)], [(0, 90, "zero"), (90, 10, "data")]),
        ([(50, 20), (0, 60)], [(0, 60, "data"), (60, 10, "data"), (70, 30, "zero")]),
        ([(128, 64)], [(0, 100, "zero")]),
    ],
)
def test_extents_are_the_whole_image_whatever_is_said_beyond_its_end(
    rows: list[tuple[int, int]], found: list[tuple[int, int, str]]
) -> None:
    said = [{"offset": at, "length": length, "exists": "true"} for at, length in rows]
    extents = list(report.extents(_said(said), 100))
    assert [(e.offset, e.length, e.kind) for e in extents] == found


def test_what_is_known_not_to_exist_is_zeros() -> None:
    said = [{"offset": 0, "length": 100, "exists": "false"}]
    assert list(report.extents(_said(said), 100)) == [Extent(0, 100, "zero")]


def test_an_id_is_read_out_of_the_object_of_a_name() -> None:
    assert report.id_in(b"\x04\0\0\0abcd") == "abcd"
    assert report.id_in(b"") == ""


@pytest.mark.parametrize("said", [b"", b"no JSON", b'{"images": []}', b'[{"size": 1}]'])
def test_what_is_no_listing_is_an_error(said: bytes) -> None:
    with pytest.raises(Error, match="not understood"):
        report.listing(said)


def test_the_key_of_one_user_is_found_among_those_of_others() -> None:
    keyring = (
        b'[client.admin]\n\tkey = AAA==\n[client.vs]\n\tkey = BBB==\n\tcaps mon = "profile rbd"\n'
    )
    assert connection.key_of(keyring, "vs") == "BBB=="
    assert connection.key_of(keyring, "v") == connection.key_of(b"", "vs") == ""


def test_what_was_written_given_back_or_cut_off_is_told_of_what_both_moments_have() -> None:
    said = [
        {"offset": 8192, "length": 4096, "exists": "false"},
        {"offset": 0, "length": 100, "exists": "true"},
        {"offset": 100, "length": 50, "exists": "false"},
        {"offset": 120, "length": 10, "exists": "true"},
        {"offset": 16384, "length": 4096, "exists": "true"},
    ]
    assert report.changes(json.dumps(said).encode(), 9000) == ((0, 150), (8192, 808))
    assert report.changes(b"[]", 9000) == ()


def test_what_a_clone_shows_of_its_parent_is_told() -> None:
    said = {"name": "x", "parent": {"pool": "vms", "image": "p", "snapshot": "s", "overlap": 7}}
    assert report.overlap(json.dumps(said).encode()) == report.Overlap("vms", "p", "s", 7)
    assert report.overlap(b'{"name": "x"}') is None


@pytest.mark.parametrize(
    ("flags", "pool_flags", "said"),
    [
        ("sortbitwise", "hashpspool", ""),
        ("sortbitwise", "hashpspool,full,full_quota", "quota"),
        ("sortbitwise", "hashpspool,full", "the pool vms is full"),
        ("full,sortbitwise", "hashpspool", "the cluster is full"),
        ("nearfull,pauserd", "nearfull", ""),
    ],
)
def test_a_pool_that_is_full_is_told_from_one_that_will_be(
    flags: str, pool_flags: str, said: str
) -> None:
    pools = [
        {"pool": 1, "pool_name": "vms", "flags_names": pool_flags},
        {"pool": 2, "pool_name": "other", "flags_names": "full"},
    ]
    found = report.why_full(_said({"epoch": 4, "flags": flags, "pools": pools}), "vms")
    assert said in found
    assert bool(found) == bool(said)


def test_what_is_in_the_trash_is_known_by_its_id() -> None:
    assert report.trash(b'[{"id": "10", "name": "web"}]') == {"10": "web"}


def test_an_image_that_is_about_to_lose_its_name_is_listed_once_with_its_snapshots() -> None:
    snapshots = Snapshot("s1", 4, 2048, True), Snapshot("s2", 5, 4096, False)
    web, *_ = report.listing(_said([*LISTED, *LISTED]))
    assert web == Listed("web", "10", 4096, None, snapshots, locked=True)


@pytest.mark.parametrize(
    ("mon_host", "hosts"),
    [
        ("", ()),
        ("10.0.0.1", ("10.0.0.1",)),
        ("10.0.0.1:6789, mon2.example", ("10.0.0.1", "mon2.example")),
        ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:10.0.0.2:3300]", ("10.0.0.1", "10.0.0.2")),
        ("[v2:[fd00::1]:3300,v1:[fd00::1]:6789],[fd00::2]", ("fd00::1", "fd00::2")),
    ],
)
def test_the_monitors_are_known_in_every_spelling(mon_host: str, hosts: tuple[str, ...]) -> None:
    assert connection.hosts_of(mon_host) == set(hosts)
