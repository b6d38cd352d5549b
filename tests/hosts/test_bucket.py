"""Archives in a bucket that one of two hosts has, reached by ssh."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.moto_server import Moto
from tests.s3 import Bucket

from ..moto_fixture import bucket, moto
from . import processes
from .command import Client
from .conftest import Hosts, random_image
from .sshd import Remote
from .trees import MIB

__all__ = ["bucket", "moto"]  # fixtures

#: Bytes that any process of a copy to or from a bucket may have resident.
_BOUND: Final = 200_000_000


@pytest.fixture
def allowed(b: Remote, bucket: Bucket) -> Iterator[Bucket]:
    """The bucket is allowed on `b`, as /s3/backups, whose agents find credentials in a file."""
    before = b.configuration.read_text()
    b.configuration.write_text(before + bucket.table())
    bucket.write_credentials(b.directory)
    yield bucket
    (b.directory / ".aws" / "credentials").unlink()
    b.configuration.write_text(before)


def test_an_image_of_one_host_is_archived_in_the_bucket_of_another(
    client: Client, a: Remote, b: Remote, allowed: Bucket
) -> None:
    image = random_image(a.images / "web.img", 9 * MIB)
    made = client.json("copy", "--archive", a.at(image), "b:/s3/backups/")
    assert made["target"] == "b:/s3/backups/web.img.zst"
    assert client.json("verify", "b:/s3/backups/web.img.zst")["digest"] == made["digest"]
    client.json("copy", "b:/s3/backups/web.img.zst", a.at(a.images / "back.img"))
    assert (a.images / "back.img").read_bytes() == image.read_bytes()
    client.json("copy", "b:/s3/backups/web.img.zst", b.at(b.images / "here.img"))
    assert (b.images / "here.img").read_bytes() == image.read_bytes()
    assert client.json("diff", a.at(image), "b:/s3/backups/web.img.zst")["different"] == 0
    [listed] = client.json("list", "-l", "b:/s3/backups")
    assert (listed["host"], listed["type"]) == ("b", "object")
    client.run("list", "a:/s3/backups", "--json").error("denied")


def test_images_are_backed_up_to_a_bucket_each_night_by_what_changed(
    client: Client, a: Remote, allowed: Bucket
) -> None:
    image = random_image(a.images / "web.img", 20 * MIB)
    [first] = client.json("backup", a.at(image), "b:/s3/backups/nightly")
    with image.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(random.Random(3).randbytes(MIB))
    [second] = client.json("backup", a.at(image), "b:/s3/backups/nightly", "--keep-last", "1")
    assert second["base"] == first["target"]
    assert second["transferred"] < 3 * MIB
    [web] = client.json("backups", "b:/s3/backups/nightly")
    assert (web["name"], web["count"]) == ("web", 1)
    client.json("restore", "b:/s3/backups/nightly/web", a.at(a.images / "back.img"))
    assert (a.images / "back.img").read_bytes() == image.read_bytes()


def test_the_contents_of_an_archive_go_into_an_image_of_another_host(
    client: Client, a: Remote, allowed: Bucket
) -> None:
    image = random_image(a.images / "web.img", 3 * MIB)
    client.json("copy", "--archive", a.at(image), "b:/s3/backups/web.img.zst")
    before = image.read_bytes()
    image.write_bytes(bytes(MIB) + before[MIB:])
    client.json("copy-contents", "b:/s3/backups/web.img.zst", a.at(image))
    assert image.read_bytes() == before


def _peak(client: Client, hosts: Hosts, *words: str | Path) -> int:
    """The most bytes that any process of a run had resident."""
    peaks: defaultdict[str, int] = defaultdict(int)
    process = client.start(*words)
    while process.poll() is None:
        for each in processes.of(hosts.directory):
            peaks[each.name] = max(peaks[each.name], processes.peak_memory(each))
        time.sleep(0.05)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, (stdout, stderr)
    assert any(name.startswith("virtstore") for name in peaks), peaks
    return max(peaks.values())


def test_a_large_archive_goes_up_and_comes_down_in_little_memory(
    client: Client, hosts: Hosts, allowed: Bucket, moto: Moto
) -> None:
    image = random_image(hosts.a.images / "large.img", 160 * MIB)
    up = _peak(client, hosts, "copy", "--archive", hosts.a.at(image), "b:/s3/backups/large.zst")
    back = hosts.b.at(hosts.b.images / "back.img")
    down = _peak(client, hosts, "copy", "b:/s3/backups/large.zst", back)
    assert max(up, down) < _BOUND, (up, down)
