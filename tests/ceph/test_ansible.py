"""The modules of the collection with images of a pool and archives in a bucket: what they change,
that a second run changes nothing, and that check mode tells what a run would do."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible_task import Tasks
from tests.s3 import Bucket

from . import place
from .cluster import Cluster
from .gateway import Gateway
from .place import MIB, VMS, Place

WEB = f"{VMS}/web"


@pytest.fixture
def here(cluster: Cluster, gateway: Gateway, tmp_path: Path) -> Iterator[Place]:
    """This machine as a host: a directory, the pool, and a bucket as /s3/backups."""
    at = gateway.endpoint.removeprefix("http://")
    bucket = Bucket(at, f"vm-{secrets.token_hex(6)}", gateway.access_key, gateway.secret_key)
    bucket.make()
    bucket.write_credentials(tmp_path)
    with place.on(cluster, tmp_path, cluster.user().table(), bucket.table()) as here:
        yield here


@pytest.fixture
def tasks(here: Place, tmp_path: Path) -> Tasks:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    return Tasks({**environment, "VIRTSTORE_CONFIG": str(here.config)})


def test_an_image_of_a_pool_is_made_kept_changed_given_back_and_removed(
    tasks: Tasks, here: Place
) -> None:
    golden = here.file("golden.img", place.noise(4 * MIB, 1))
    image = {"location": WEB, "source": str(golden), "size": "6M"}
    assert tasks.done_once("image", **image)["image"]["type"] == "rbd"
    old = golden.read_bytes() + bytes(2 * MIB)
    snapshot = {"location": WEB, "name": "before"}
    assert tasks.done_once("snapshot", **snapshot)["location"] == f"{WEB}@before"
    new = here.file("new.img", place.noise(6 * MIB, 2))
    tasks.done_once("copy", source=str(new), target=WEB, contents=True)
    assert here.contents("web") == new.read_bytes()
    tasks.done_once("copy", source=f"{WEB}@before", target=WEB, contents=True)
    assert here.contents("web") == old
    error = tasks.refused("image", "in-use", location=WEB, state="absent")
    assert f"{WEB}@before" in error["message"]
    tasks.done_once("snapshot", **snapshot, state="absent")
    tasks.done_once("image", location=WEB, state="absent")
    assert here.names() == []


def test_images_of_a_pool_are_archived_and_backed_up_in_a_bucket(tasks: Tasks, here: Place) -> None:
    here.image("web", place.noise(4 * MIB, 1))
    archive = {"source": WEB, "target": "/s3/backups/by-hand/", "archive": True}
    assert tasks.done_once("copy", **archive)["location"] == "/s3/backups/by-hand/web.zst"
    back = here.root / "back.img"
    tasks.done_once("image", location=str(back), source="/s3/backups/by-hand/web.zst")
    assert back.read_bytes() == here.contents("web")
    nightly = {"sources": [VMS], "directory": "/s3/backups/nightly", "max_age": "1h"}
    foretold, done = tasks.checked("backup", **nightly), tasks.run("backup", **nightly)
    assert foretold["changed"]
    assert [each["source"] for each in foretold["backups"]] == [WEB]
    [made] = done["backups"]
    again = tasks.run("backup", **nightly)
    assert (again["changed"], again["recent"]) == (False, [WEB])
    facts = tasks.run("facts", recursive=True)["ansible_facts"]["virtstore"]
    told = {each["path"]: each["type"] for each in facts["hosts"]["local:"]["images"]}
    assert told == {
        WEB: "rbd",
        str(back): "file",
        "/s3/backups/by-hand/web.zst": "object",
        made["target"]: "object",
    }
    tasks.done_once("image", location="/s3/backups/by-hand/web.zst", state="absent")
