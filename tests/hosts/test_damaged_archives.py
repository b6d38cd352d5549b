"""A damaged archive is found out: nothing is made of it, and nothing is overwritten by it."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import virtstore

from .command import Client
from .conftest import Hosts, Refused, client_environment, random_image
from .damage import DAMAGES
from .trees import MIB


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive of 2 MiB of noise between zeros."""
    base = tmp_path_factory.mktemp("sound")
    base.chmod(0o755)
    images = base / "images"
    images.mkdir(mode=0o755)
    image = random_image(images / "disk", 2 * MIB)
    with image.open("r+b") as file:
        file.truncate(6 * MIB)
    configuration = base / "config.toml"
    configuration.write_text(f'[[directory]]\npath = "{images}"\naccess = "write"\n')
    client = Client({"VIRTSTORE_CONFIG": str(configuration), "XDG_CONFIG_HOME": str(base)})
    client.json("copy", "--archive", image, images / "archive")
    return (images / "archive").read_bytes()


@pytest.fixture(scope="module")
def sessions(all_hosts: Hosts) -> Iterator[tuple[virtstore.Host, virtstore.Host]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in client_environment(all_hosts).items():
            monkeypatch.setenv(name, value)
        with virtstore.connect("a") as a, virtstore.connect("b") as b:
            yield a, b


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_made_of_a_damaged_archive_and_nothing_overwritten_by_it(
    hosts: Hosts,
    sessions: tuple[virtstore.Host, virtstore.Host],
    sound: bytes,
    damage: str,
) -> None:
    path = hosts.a.images / "archive.zst"
    path.write_bytes(DAMAGES[damage](sound))
    old = str(random_image(hosts.b.images / "disk", 8 * MIB, seed=2))
    archive, target = sessions[0].image(str(path)), sessions[1].image(old)
    before = hosts.snapshot()
    for copy in (
        partial(archive.copy, sessions[1].image(f"{old}-new")),
        partial(archive.copy_contents, target),
    ):
        with pytest.raises(virtstore.Corrupt) as caught:
            copy()
        assert (caught.value.host, caught.value.path) == ("a", str(path))
        assert hosts.snapshot() == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("cut in the footer", "the archive is truncated"),
        ("a bit flipped in the data", "fails its checks|not have the checksum"),
        ("8 EiB claimed by the JSON frame", "9223372036854775808 bytes of image"),
    ],
)
def test_the_command_line_says_what_is_damaged(
    hosts: Hosts, refused: Refused, sound: bytes, damage: str, says: str
) -> None:
    archive = hosts.a.images / "archive.zst"
    archive.write_bytes(DAMAGES[damage](sound))
    target = random_image(hosts.a.images / "disk", 8 * MIB, seed=2)
    at = hosts.a.at(archive)
    refused("corrupt", "copy", at, hosts.b.at(hosts.b.images / "new"), says=says)
    refused("corrupt", "verify", at, says=says)
    refused("corrupt", "uncompress", at, says=says)
    refused("corrupt", "copy-contents", at, hosts.a.at(target), says=says)


@pytest.mark.parametrize("text", [b"Dear diary,\n" * 1000, random.Random(3).randbytes(100_000)])
def test_a_zst_of_something_else_becomes_that_and_nothing_is_made_up(
    client: Client, hosts: Hosts, text: bytes
) -> None:
    """Whatever zstd compressed is an archive: what it holds is the image."""
    archive, image = hosts.a.images / "notes.zst", hosts.b.images / "notes"
    _zstd(archive, text)
    told = client.json("copy", hosts.a.at(archive), hosts.b.at(image))
    assert (told["size"], image.read_bytes()) == (len(text), text)
    assert client.json("verify", hosts.a.at(archive))["checked"] == "checksums"


def test_a_zst_of_something_else_is_found_out_when_it_is_cut(
    hosts: Hosts, refused: Refused
) -> None:
    archive = hosts.a.images / "notes.zst"
    _zstd(archive, random.Random(3).randbytes(100_000))
    archive.write_bytes(archive.read_bytes()[:-2])
    target = random_image(hosts.b.images / "disk", MIB)
    at = hosts.a.at(archive)
    refused("corrupt", "copy", at, hosts.b.at(hosts.b.images / "new"), says="")
    refused("corrupt", "copy-contents", at, hosts.b.at(target), says="")


def test_a_file_that_is_only_called_zst_is_refused_and_never_written_over_an_image(
    hosts: Hosts, refused: Refused
) -> None:
    """It may be an archive with a damaged beginning: no image is to be made of it."""
    file = random_image(hosts.a.images / "noise.zst", MIB)
    target = random_image(hosts.b.images / "disk", MIB)
    at = hosts.a.at(file)
    refused("corrupt", "copy", at, hosts.b.at(hosts.b.images / "new"), says="is none")
    refused("corrupt", "copy-contents", at, hosts.b.at(target), says="is none")
    refused("corrupt", "uncompress", at, says="is none")
    refused("corrupt", "verify", at, says="is none")


def _zstd(archive: Path, text: bytes) -> None:
    with archive.open("wb") as out:
        subprocess.run(["zstd", "-cq"], input=text, stdout=out, check=True)
