"""Copies on file systems that can less than a disk's own: FAT, and under `make torture` NFS and 9p,
each served by this machine to itself, with the contract of every store on all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

from ...contract.stores import Subject, directory
from ...leftovers import MARK
from ...ours import undated
from .shell import MIB, sh

TORTURE = "VIRTSTORE_TORTURE" in os.environ
if TORTURE:
    from ...contract.every_store import *  # noqa: F403

SERVE = """
mkfs.ext4 -q /dev/ubda && mkdir -p /mnt/served && mount /dev/ubda /mnt/served
chmod 700 /mnt/served && mkdir -m 700 /mnt/served/nfs /mnt/served/9p
mount -t tmpfs tmpfs /var/lib/nfs && mkdir /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
modprobe -a nfsd nfsv3 nfsv4 9pnet_fd 9p && mount -t nfsd nfsd /proc/fs/nfsd
echo '/mnt/served *(rw,no_root_squash,insecure,fsid=0,no_subtree_check)' >/etc/exports
rpcbind -w && exportfs -ra && rpc.nfsd 2 && rpc.mountd
diod -n -e /mnt/served/9p -l 127.0.0.1:5640 -U root
"""
SERVED = {
    "nfs4": "mount -t nfs4 127.0.0.1:/nfs /mnt/nfs4",
    "nfs3": "mount -t nfs -o vers=3,nolock 127.0.0.1:/mnt/served/nfs /mnt/nfs3",
    "9p": "mount -t 9p -o trans=tcp,port=5640,version=9p2000.L,aname=/mnt/served/9p,uname=root"
    " 127.0.0.1 /mnt/9p",
}
MOUNTS = (SERVED if TORTURE else {}) | {
    "vfat": "modprobe vfat && mkfs.vfat /dev/ubdb && mount -o umask=077 /dev/ubdb /mnt/vfat",
}
CONTENTS = os.urandom(2 * MIB + 512) + bytes(MIB)


@pytest.fixture(scope="module")
def places() -> None:
    needed = {"rpc.nfsd": "nfs-kernel-server", "diod": "diod"} if TORTURE else {}
    needed |= {"mkfs.vfat": "dosfstools"}
    if missing := [package for tool, package in needed.items() if not shutil.which(tool)]:
        pytest.fail(f"it needs: apt-get install {' '.join(missing)}", pytrace=False)
    if TORTURE:
        sh(f"unset {MARK}\n{SERVE}")  # what serves them ends with this machine
    for kind, mount in MOUNTS.items():
        sh(f"mkdir -m 700 /mnt/{kind} && {mount}")


@pytest.fixture(params=MOUNTS)
def place(request: pytest.FixtureRequest, places: None) -> Path:
    return Path("/mnt", request.param)


@pytest.fixture
def subject(place: Path) -> Iterator[Subject]:
    with directory(str(place)) as subject:
        yield subject


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(mode=0o700)
    (made / "x.img").write_bytes(CONTENTS)
    return made


@pytest.fixture
def host(place: Path, images: Path, tmp_path: Path) -> Iterator[virtstore.Host]:
    config = tmp_path / "config.toml"
    roots = (f'[[directory]]\npath = "{each}"\naccess = "write"\n' for each in (place, images))
    config.write_text("".join(roots) + "volatile = true\n")
    with virtstore.connect(config=str(config)) as here:
        yield here
    for each in place.iterdir():
        each.unlink()


@pytest.mark.parametrize("archive", [False, True])
def test_a_copy_is_whole_replaces_nothing_unasked_and_goes_on_where_it_was(
    host: virtstore.Host, place: Path, images: Path, archive: bool
) -> None:
    source, target = host.image(f"{images}/x.img"), host.image(f"{place}/y.img")
    whole = source.copy(target, archive=archive)
    assert target.verify().digest == whole.digest
    with pytest.raises(virtstore.Exists):
        source.copy(target, archive=archive)
    made = (place / "y.img").read_bytes()
    (place / "y.img").unlink()
    (place / "y.img.virtstore-partial").write_bytes(made[: MIB + 5000])
    assert 0 < source.copy(target, archive=archive).written < whole.written
    assert undated((place / "y.img").read_bytes()) == undated(made)
    assert target.verify().digest == whole.digest
    assert source.copy(target, archive=archive, overwrite=True).digest == whole.digest
    assert [Path(each.path).name for each in host.list(str(place))] == ["y.img"]


def test_an_image_is_overwritten_and_resized_there(
    host: virtstore.Host, place: Path, images: Path
) -> None:
    target = host.create(f"{place}/y.img", "4M")
    host.image(f"{images}/x.img").copy_contents(target)
    target.grow("5M")
    target.shrink("4M", discard_data=True)
    assert (place / "y.img").read_bytes() == CONTENTS.ljust(4 * MIB, b"\0")
    target.delete()
    assert host.list(str(place)) == []


def test_storage_info_tells_what_each_lacks(host: virtstore.Host, place: Path) -> None:
    [found] = [each for each in host.storage_info().directories if each.path == str(place)]
    wanted = {
        "nfs4": {"rename without replacing", "files without a name"},
        "nfs3": {"rename without replacing", "files without a name", "reserved space"},
        "9p": {"rename without replacing", "files without a name", "reserved space"},
        "vfat": {"files without a name", "extended attributes", "holes", "file modes"},
    }
    assert wanted[place.name] <= set(found.lacks)
    assert "new names" not in found.lacks
    assert list(place.iterdir()) == []
