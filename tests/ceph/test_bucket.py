"""Archives in a bucket of Ceph's own gateway, which looks at signatures, and does not heed each
condition that S3 has."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fault_proxy
from tests.fault_proxy import Proxy
from tests.s3 import Bucket
from tests.tools.buckets import MIB, SIZE, BucketHost
from tests.tools.test_agent_commands import told, virtstore
from tests.tools.test_bucket_faults import Agent, parts_there
from tests.waiting import PATIENCE, until
from tests.warm import COMMAND

from . import place
from .cluster import Cluster
from .gateway import Gateway

_OTHER = Path(__file__).parents[1] / "tools" / "agent_of_another_host.py"


@pytest.fixture
def bucket(gateway: Gateway) -> Bucket:
    at = gateway.endpoint.removeprefix("http://")
    found = Bucket(at, f"vm-{secrets.token_hex(6)}", gateway.access_key, gateway.secret_key)
    found.make()
    return found


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    with fault_proxy.between(bucket.at) as between:
        yield between


@pytest.fixture
def there(
    tmp_path: Path, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> BucketHost:
    host = BucketHost(tmp_path, bucket, monkeypatch)
    host.allow(by=bucket.through(proxy.at))
    return host


def test_an_image_goes_there_and_comes_back_and_a_part_of_it_costs_a_part(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    image = there.image()
    made = there.archive(image, "d/with space, ü+&.zst")
    assert bucket.keys() == ["d/with space, ü+&.zst"]
    assert bucket.uploads() == []
    assert there.back("d/with space, ü+&.zst") == image.read_bytes()
    proxy.forget()
    info = told("info", "/s3/backups/d/with space, ü+&.zst")
    assert (info["size"], info["type"]) == (SIZE, "object")
    assert proxy.got() < 6 * MIB
    assert told("verify", "/s3/backups/d/with space, ü+&.zst")["digest"] == made.digest


def test_backups_are_based_on_each_other_and_pruned(there: BucketHost, bucket: Bucket) -> None:
    image = there.image()
    [first] = told("backup", image, "/s3/backups/nightly")
    with image.open("r+b") as file:
        file.write(os.urandom(MIB))
    [second] = told("backup", image, "/s3/backups/nightly", "--verify", "--keep-last", 1)
    assert second["base"] == first["target"]
    assert second["pruned"] == [first["target"]]
    told("restore", "/s3/backups/nightly/web", there.images / "back.img")
    assert (there.images / "back.img").read_bytes() == image.read_bytes()
    assert len(bucket.keys()) == 1


def test_a_server_that_copies_no_ranges_is_sent_them(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    image = there.image()
    there.archive(image, "first.zst")
    proxy.happen("answer", verb="PUT", target="partNumber=1", status=501, code="NotImplemented")
    with there.session() as host:
        source, target = host.image(str(image)), host.image("/s3/backups/second.zst")
        source.copy(target, archive=True, base="/s3/backups/first.zst")
    assert there.back("second.zst") == image.read_bytes()
    assert bucket.uploads() == []


def test_a_killed_upload_is_partial_goes_on_and_can_be_cleaned(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    image = there.image()
    for how in ("again", "clean"):
        agent = Agent(there, proxy, image)
        try:
            until(lambda: {"1", "2"} <= {*parts_there(bucket)}, "two parts to arrive")
            os.kill(agent.pid, signal.SIGKILL)
        finally:
            agent.over()
        proxy.forget()
        proxy.go_on.clear()
        [left] = told("list", "/s3/backups")
        assert left["state"] == "partial"
        if how == "again":
            there.archive(image, "web.img.zst")
            assert proxy.sent() < SIZE - 15 * MIB
            assert there.back("web.img.zst") == image.read_bytes()
            told("delete", "/s3/backups/web.img.zst")
        else:
            told("clean", "/s3/backups")
        bucket.nothing_is_left()


def test_of_many_hosts_that_begin_one_archive_at_once_one_makes_it(
    there: BucketHost, bucket: Bucket, tmp_path: Path
) -> None:
    images = [there.image(f"{number}.img", size=MIB, seed=number) for number in range(4)]
    running = []
    for number, image in enumerate(images):
        locks = str(tmp_path / f"locks{number}")
        agent = shlex.join([sys.executable, str(_OTHER), locks, "--config", str(there.config)])
        words = [
            sys.executable,
            "-c",
            COMMAND,
            "copy",
            "--archive",
            str(image),
            "/s3/backups/x.zst",
        ]
        running.append(subprocess.Popen(words, env={**os.environ, "VIRTSTORE_AGENT": agent}))
    ended = [process.wait(PATIENCE) for process in running]
    assert sorted(ended)[0] == 0 < sorted(ended)[1]
    assert set(ended) <= {0, 4, 6}
    winner = ended.index(0)
    assert there.back("x.zst") == images[winner].read_bytes()
    if bucket.uploads():  # of one that began when the winner's claim was just gone
        assert ended.count(4)
        told("clean", "/s3/backups")
    assert (bucket.keys(), bucket.uploads()) == (["x.zst"], [])


@pytest.mark.parametrize("what", ["secret", "access_key"])
def test_wrong_credentials_are_denied(there: BucketHost, bucket: Bucket, what: str) -> None:
    wrong = {"access_key": bucket.access_key, "secret": bucket.secret, what: secrets.token_hex(10)}
    there.known_as(Bucket(bucket.at, bucket.name, **wrong))
    done = virtstore("copy", "--archive", there.image(size=MIB), "/s3/backups/x.zst", status=5)
    assert wrong["secret"] not in done.stderr
    bucket.nothing_is_left()


def test_an_image_of_the_pool_is_backed_up_to_the_bucket_by_what_was_written(
    cluster: Cluster, bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = (cluster.user().table(), bucket.through(proxy.at).table())
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    with place.on(cluster, tmp_path, *tables) as here:
        monkeypatch.setenv("VIRTSTORE_CONFIG", str(here.config))
        old = place.noise(24 * MIB, 1)
        new = here.file("new.img", old[: 8 * MIB] + place.noise(2 * MIB, 2) + old[10 * MIB :])
        web = here.image("web", old)
        [first] = told("backup", web, "/s3/backups/nightly", "--keep-snapshot")
        told("copy-contents", new, web)
        proxy.forget()
        [second] = told("backup", web, "/s3/backups/nightly", "--keep-snapshot")
        assert second["base"] == first["target"]
        assert second["read"] < 12 * MIB
        assert proxy.sent() < 12 * MIB
        told("restore", "/s3/backups/nightly/web", f"{place.VMS}/back")
        assert here.contents("back") == here.contents("web")
