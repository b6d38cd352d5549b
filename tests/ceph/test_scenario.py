"""The proposal's scenario with images in a pool, between two hosts over real ssh: as commands and
as Python; and from one host's directory to another's pool and back."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

from ..hosts.command import Client
from ..hosts.conftest import CONTENTS, Hosts, client_environment
from ..hosts.sshd import Remote, find
from ..hosts.trees import MIB, digest_of
from . import guest
from .cluster import POOL, Cluster
from .place import VMS, exported

_IMAGE = f"{VMS}/newimage"


@pytest.fixture(autouse=True)
def pool_of_both(cluster: Cluster, a: Remote, b: Remote) -> Iterator[None]:
    """Both hosts may use the pool, as a restricted user."""
    kept = [(host.configuration, host.configuration.read_text()) for host in (a, b)]
    for configuration, text in kept:
        configuration.write_text(text + cluster.user().table())
    yield
    for configuration, text in kept:
        configuration.write_text(text)


def fsck(cluster: Cluster, image: str = f"{POOL}/newimage") -> int:
    """The bytes of an image in which the file system is found clean, with the golden file."""
    with tempfile.TemporaryDirectory(dir=cluster.directory) as directory:
        path = Path(directory) / "image"
        path.write_bytes(exported(cluster, image))
        program = find("e2fsck")
        assert program
        done = subprocess.run([program, "-fn", str(path)], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
        assert CONTENTS in path.read_bytes()
        return path.stat().st_size


def test_the_proposals_scenario_as_commands(
    cluster: Cluster,
    client: Client,
    a: Remote,
    b: Remote,
    ext4: Path,
) -> None:
    golden, backup = a.golden / "golden.img", b.at(b.images / "backup23image")
    shutil.copy(ext4, golden)
    image = f"a:{_IMAGE}"
    assert cluster.room()
    (pool,) = (p for p in client.json("storage-info", "a:")["places"] if p["type"] == "rbd-pool")
    assert (pool["path"], pool["access"]) == (VMS, "write")
    assert 0 < pool["free"] <= pool["total"]
    assert client.json("create", image, "40M")["size"] == 40 * MIB
    assert client.json("copy-contents", a.at(golden), image)["size"] == 24 * MIB
    assert client.json("growfs", image)["filesystem"]["size"] == 40 * MIB
    copied = client.json("copy", "--snapshot", "--archive", image, backup)
    assert client.json("verify", backup)["digest"] == copied["digest"]
    told = client.json("copy-contents", backup, image)
    assert (told["digest"], told["written"]) == (copied["digest"], 0)
    assert client.json("grow", image, "60M")["size"] == 60 * MIB
    assert client.json("growfs", image)["filesystem"]["size"] == 60 * MIB
    assert fsck(cluster) == 60 * MIB
    (entry,) = client.json("list", "-l", f"a:{VMS}")
    assert (entry["path"], entry["type"], entry["snapshots"]) == (_IMAGE, "rbd", [])
    assert entry["filesystem"]["type"] == "ext4"
    assert client.json("delete", image)["changed"]
    assert client.json("list", f"b:{VMS}") == []


def test_the_proposals_scenario_in_python_while_a_guest_writes(
    cluster: Cluster,
    hosts: Hosts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in client_environment(hosts).items():
        monkeypatch.setenv(name, value)
    size = 16 * MIB
    with virtstore.connect("ssh:a") as here, virtstore.connect("ssh://b") as there:
        (pool,) = (p for p in here.storage_info().places if p.type == "rbd-pool")
        image = here.create(f"{pool.path}/newimage", size)
        with guest.running(cluster, f"{POOL}/newimage", size) as running:
            running.work()
            before = running.written
            backup = image.copy(
                there.image(str(hosts.b.images / "backup")), snapshot=True, archive=True
            )
            after = running.written
        assert backup.verify().digest == backup.result.digest
        backup.copy_contents(image)
        assert before <= guest.blocks_in(exported(cluster, f"{POOL}/newimage")) <= after + 1
        image.grow("20M")
        assert image.info().size == 20 * MIB
        assert image.info().snapshots == ()


def test_an_image_goes_from_a_directory_on_a_to_the_pool_on_b_and_back(
    cluster: Cluster,
    client: Client,
    a: Remote,
    b: Remote,
    ext4: Path,
) -> None:
    source, back = a.images / "web.img", a.images / "back.img"
    shutil.copy(ext4, source)
    there = client.json("copy", a.at(source), f"b:{VMS}/web")
    assert there["digest"] == digest_of(source)
    assert exported(cluster, f"{POOL}/web") == source.read_bytes()
    again = client.json("copy-contents", a.at(source), f"b:{VMS}/web")
    assert (again["written"], again["digest"]) == (0, there["digest"])
    assert client.json("copy", f"b:{VMS}/web", a.at(back))["digest"] == there["digest"]
    assert back.read_bytes() == source.read_bytes()
    assert client.json("diff", a.at(source), f"b:{VMS}/web")["different"] == 0
