"""A block device of another host as the target and the source of a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.stores import looped

from .command import Client
from .conftest import Hosts, Refused, random_image
from .trees import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root attaches loop devices")
SIZE = 16 * MIB


@pytest.fixture
def device(hosts: Hosts, tmp_path: Path) -> Iterator[str]:
    """The path of a device that host `b` allows, with random bytes on it."""
    backing, before = random_image(tmp_path / "disk", SIZE, seed=5), hosts.b.configuration
    kept = before.read_text()
    with looped(backing) as path:
        before.write_text(f'{kept}\n[[block_device]]\npath = "{path}"\naccess = "write"\n')
        yield path
        before.write_text(kept)


def on_it(device: str) -> bytes:
    with open(device, "rb") as file:
        return file.read()


def test_an_image_goes_there_and_comes_back(client: Client, hosts: Hosts, device: str) -> None:
    image = random_image(hosts.a.images / "disk", 9 * MIB + 512)
    at = hosts.b.at(Path(device))
    client.run("copy", hosts.a.at(image), at, "--json").error("exists")
    client.json("copy", "--overwrite", hosts.a.at(image), at)
    assert on_it(device) == image.read_bytes().ljust(SIZE, b"\0")
    client.json("copy", at, hosts.a.at(hosts.a.images / "back"))
    assert (hosts.a.images / "back").read_bytes() == on_it(device)
    assert client.json("copy-contents", hosts.a.at(hosts.a.images / "back"), at)["written"] == 0


def test_a_damaged_archive_is_found_before_anything_changes(
    client: Client, hosts: Hosts, refused: Refused, device: str
) -> None:
    image, archive = random_image(hosts.a.images / "disk", 9 * MIB), hosts.a.images / "disk.zst"
    client.json("copy", "--archive", hosts.a.at(image), hosts.a.at(archive))
    sound, before = archive.read_bytes(), on_it(device)
    archive.write_bytes(sound[: 8 * MIB] + b"damage" + sound[8 * MIB + 6 :])
    at = hosts.b.at(Path(device))
    refused("corrupt", "copy", "--overwrite", hosts.a.at(archive), at, says="")
    assert on_it(device) == before
    archive.write_bytes(sound)
    client.json("copy", "--overwrite", hosts.a.at(archive), at)
    assert on_it(device) == image.read_bytes().ljust(SIZE, b"\0")
