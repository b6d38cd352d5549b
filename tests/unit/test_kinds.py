"""The table of kinds of place: what every kind says of itself."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from virtstore.agent.config import load
from virtstore.backends.block_device.root import BlockDeviceRoot
from virtstore.backends.bucket.root import BucketRoot
from virtstore.backends.files.root import DirectoryRoot
from virtstore.backends.kinds import KINDS, Root, WrongValue
from virtstore.backends.lvm.root import VolumeGroupRoot
from virtstore.backends.rbd.root import RbdPoolRoot
from virtstore.errors import Denied

ROOTS = (
    DirectoryRoot('/srv/a "b"\\c', "append"),
    VolumeGroupRoot("vg-0", "write"),
    BlockDeviceRoot('/dev/disk/by-id/a "b"\\c', "read"),
    BucketRoot("b-1", "http://[::1]:9000", "vm.x", "a b/ü/", "eu-1", "append", True, 3),
    BucketRoot("b", "https://s3.example.com", "vms"),
    RbdPoolRoot("vm-s", "write"),
)


def test_there_is_an_example_of_each_kind_here() -> None:
    assert {type(root) for root in ROOTS} == set(KINDS)
    assert len({kind.section for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("root", ROOTS)
def test_the_lines_of_a_root_make_that_root(tmp_path: Path, root: Root) -> None:
    file = tmp_path / "c.toml"
    file.write_text(root.lines())
    file.chmod(0o600)
    assert load(str(file)).roots == (root,)


@pytest.mark.parametrize("root", ROOTS)
def test_what_lies_in_a_root_is_told_from_what_lies_beside_it(root: Root) -> None:
    inside = root.below(root.path)
    assert inside is not None
    assert root.address(inside) == root.path
    for path in (f"{root.path}x", root.path[:-1], "/", "/dev", "/srv"):
        assert root.below(path) is None
    if not root.is_image:
        assert root.address(root.below(f"{root.path}/y") or "") == f"{root.path}/y"


@pytest.mark.parametrize(
    ("root", "key"),
    [
        (DirectoryRoot("images"), "path"),
        (DirectoryRoot("/x", mode="999"), "mode"),
        (DirectoryRoot("/x", owner="no-such-user-here"), "owner"),
        (DirectoryRoot("/x", group=-1), "group"),
        (VolumeGroupRoot("/dev/vg0"), "name"),
        (BlockDeviceRoot("/srv/disk"), "path"),
        (BlockDeviceRoot("/dev/shm/disk"), "path"),
        (BucketRoot("a/b", "https://x", "vms"), "name"),
        (BucketRoot("..", "https://x", "vms"), "name"),
        (BucketRoot("b", "x", "vms"), "endpoint"),
        (BucketRoot("b", "https://u:p@x", "vms"), "endpoint"),
        (BucketRoot("b", "https://x", "a/b"), "bucket"),
        (BucketRoot("b", "https://x", "vms", "a"), "prefix"),
        (BucketRoot("b", "https://x", "vms", "/a/"), "prefix"),
        (BucketRoot("b", "https://x", "vms", "a/../"), "prefix"),
        (BucketRoot("b", "https://x", "vms", region="eu west"), "region"),
        (RbdPoolRoot("/dev/rbd/vms"), "name"),
        (RbdPoolRoot("vms", conf="ceph.conf"), "conf"),
        (RbdPoolRoot("vms", user="client.virtstore"), "user"),
        (RbdPoolRoot("vms", user=""), "user"),
        (RbdPoolRoot("vms", keyring="keyring"), "keyring"),
        (RbdPoolRoot("vms", namespace="-n"), "namespace"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(root: Root, key: str) -> None:
    with pytest.raises(WrongValue) as raised:
        root.check()
    assert raised.value.key == key


@pytest.mark.parametrize(("format", "unsaid"), [("raw", None), ("qcow2", "qcow2")])
def test_a_directory_knows_what_its_files_are_whose_names_say_nothing(
    tmp_path: Path, format: Literal["raw", "qcow2"], unsaid: str | None
) -> None:
    root = DirectoryRoot(str(tmp_path), format=format).part(str(tmp_path))
    anchor = os.open(tmp_path, os.O_PATH)
    try:
        opened = root.open(anchor, "")
    finally:
        os.close(anchor)
    with closing(opened) as store:
        found = [store.container_of(name) for name in ("web.img", "web.qcow2", "web.raw")]
    assert found == [unsaid, "qcow2", None]


def test_what_the_configuration_says_is_made_a_value_of_once() -> None:
    root = DirectoryRoot("/x", mode="0640")
    assert root.new_files is root.new_files


def test_two_buckets_with_the_same_keys_are_refused_and_two_beside_each_other_are_not() -> None:
    def root(name: str, prefix: str, endpoint: str = "https://x") -> BucketRoot:
        return BucketRoot(name, endpoint, "vms", prefix)

    beside = [root("b", "site-b/"), root("c", "site-a2/"), root("d", "", "https://y")]
    root("a", "site-a/").refuse_overlap(beside)
    for prefix in ("", "site-a/", "site-a/x/"):
        with pytest.raises(Denied, match="/s3/b"):
            root("a", "site-a/").refuse_overlap([root("b", prefix)])


def test_a_part_of_a_bucket_has_the_keys_below_it() -> None:
    part = BucketRoot("b", "https://x", "vms", "p/").part("/s3/b/web")
    assert (part.path, part.prefix) == ("/s3/b/web", "p/web/")
