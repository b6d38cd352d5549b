"""The same job through the public Python API, in the words of the interface's example."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore
from virtstore.model import ImageInfo, ResizedFilesystem

from .conftest import Hosts, client_environment, random_image
from .test_main_job import fsck, same
from .trees import MIB, digest_of


@pytest.fixture(autouse=True)
def environment(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in client_environment(hosts).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sessions(hosts: Hosts) -> Iterator[tuple[virtstore.Host, virtstore.Host]]:
    with virtstore.connect("ssh://a") as a, virtstore.connect("ssh:b") as b:
        yield a, b


Sessions = tuple[virtstore.Host, virtstore.Host]


def test_an_image_lives_from_create_to_delete(sessions: Sessions, hosts: Hosts, ext4: Path) -> None:
    a, b = sessions
    golden, web = hosts.a.golden / "golden.img", hosts.a.images / "web.img"
    shutil.copy(ext4, golden)
    image = a.create(str(web), "40M")
    a.image(str(golden)).copy_contents(image)
    assert image.growfs().filesystem == ResizedFilesystem("ext4", 40 * MIB)
    fsck(web)
    backup = image.copy(b.image(f"{hosts.b.images}/backup23"), archive=True)
    assert backup.result.digest == digest_of(web) == backup.verify().digest
    assert backup.info().compression == "zstd"
    saved = web.read_bytes()
    web.write_bytes(bytes(40 * MIB))
    restored = backup.copy_contents(image)
    assert restored.result.digest == backup.result.digest
    assert web.read_bytes() == saved
    assert image.grow("48M").size == 48 * MIB
    assert image.growfs().filesystem == ResizedFilesystem("ext4", 48 * MIB)
    fsck(web)
    image.delete()
    assert not web.exists()


def test_what_is_there_comes_as_typed_values(sessions: Sessions, hosts: Hosts) -> None:
    a, b = sessions
    random_image(hosts.a.images / "disk", MIB)
    [found] = a.list(str(hosts.a.images), long=True)
    assert isinstance(found, ImageInfo)
    assert (found.host, found.size, found.state) == ("a", MIB, "complete")
    roots = {root.path: root.access for root in b.storage_info().directories}
    assert roots[str(hosts.b.drop)] == "append"


def test_progress_is_told_and_ends_at_the_size(sessions: Sessions, hosts: Hosts) -> None:
    a, b = sessions
    events: list[tuple[int, int]] = []
    source = a.image(str(random_image(hosts.a.images / "disk", 4 * MIB)))
    target = b.image(f"{hosts.b.images}/disk")
    source.copy(target, progress=lambda event: events.append((event.done, event.total)))
    assert events == sorted(events)
    assert events[-1] == (4 * MIB, 4 * MIB)


def test_an_error_is_of_its_own_class_and_says_where(sessions: Sessions, hosts: Hosts) -> None:
    a, b = sessions
    missing = str(hosts.b.images / "missing")
    with pytest.raises(virtstore.NotFound) as caught:
        b.image(missing).info()
    assert (caught.value.host, caught.value.path) == ("b", missing)
    with pytest.raises(virtstore.Denied):
        a.create(f"{hosts.a.golden}/new", "1M")
    assert a.create(f"{hosts.a.images}/new", "1M").info().size == MIB, "the session goes on"


def test_a_compressed_image_is_compared_with_the_image_that_it_was(
    sessions: Sessions, hosts: Hosts
) -> None:
    a, b = sessions
    path = random_image(hosts.a.images / "disk", 2 * MIB + 1)
    copied = a.image(str(path)).copy(b.image(f"{hosts.b.images}/disk.zst"), archive=True)
    assert copied.diff(a.image(str(path))).different == 0
    plain = copied.uncompress()
    assert plain.path == f"{hosts.b.images}/disk"
    assert same(path, Path(plain.path))
    assert plain.compress(format="gzip").path == f"{hosts.b.images}/disk.gz"
