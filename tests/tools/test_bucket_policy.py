"""The policy document of docs/howto/s3.md, enforced: who has that key can back up and restore, and
remove nothing."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from tests.moto_server import Moto
from tests.s3 import Bucket
from tests.shown import ROOT
from tests.tools.buckets import MIB, BucketHost
from tests.tools.test_agent_commands import told, virtstore


def _document(bucket: Bucket) -> str:
    page = (ROOT / "docs" / "howto" / "s3.md").read_text()
    found = re.search(r"```json\n(\{\n  \"Version\".*?)```", page, re.S)
    assert found
    return found[1].replace("vm-backups", bucket.name)


@pytest.fixture
def there(
    tmp_path: Path, moto: Moto, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> BucketHost:
    """A host that has no more than that key, whatever its own configuration allows."""
    user = f"host-{secrets.token_hex(4)}"
    key, secret = moto.user(user, _document(bucket))
    host = BucketHost(tmp_path, bucket, monkeypatch)
    host.known_as(Bucket(bucket.at, bucket.name, key, secret))
    host.allow(prefix="site-a/")
    return host


def test_a_host_with_that_key_adds_backups_and_removes_none(
    there: BucketHost, moto: Moto, bucket: Bucket
) -> None:
    image = there.image(size=9 * MIB)
    bucket.put("site-b/secret.img.zst", b"another host's")
    with moto.watchful():
        [first] = told("backup", image, "/s3/backups/nightly")
        with image.open("r+b") as file:
            file.write(os.urandom(MIB))
        [second] = told("backup", image, "/s3/backups/nightly", "--verify")
        told("restore", "/s3/backups/nightly/web", there.images / "back.img")
        assert (there.images / "back.img").read_bytes() == image.read_bytes()
        denied = told("delete", first["target"], status=5)["error"]
        assert denied["path"] == first["target"]
        assert "s3:DeleteObject" in denied["message"]
        told("prune", "/s3/backups/nightly", "--keep-last", 1, status=5)
        there.allow(prefix="site-b/")
        told("verify", "/s3/backups/secret.img.zst", status=5)
        assert virtstore("copy", "--archive", image, "/s3/backups/x.zst", status=5)
    kept = [f"site-a/{each['target'].removeprefix('/s3/backups/')}" for each in (first, second)]
    assert sorted([*kept, "site-b/secret.img.zst"]) == bucket.keys()
    assert bucket.uploads() == []


def test_an_object_lock_keeps_what_somebody_removes_and_hinders_no_backup(
    tmp_path: Path, moto: Moto, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = replace(bucket, name=f"{bucket.name}-locked")
    locked.make_locked(days=30)
    there = BucketHost(tmp_path, locked, monkeypatch)
    image = there.image(size=9 * MIB)
    [first] = told("backup", image, "/s3/backups/nightly")
    [second] = told("backup", image, "/s3/backups/nightly", "--verify", "--keep-last", 1)
    assert second["base"] == first["target"]
    kept = [each["target"].removeprefix("/s3/backups/") for each in (first, second)]
    assert locked.keys() == kept[1:]
    assert set(kept) < {*locked.versions()}
    told("restore", "/s3/backups/nightly/web", there.images / "back.img")
    assert (there.images / "back.img").read_bytes() == image.read_bytes()
    there.allow(by=locked)
    assert [each["state"] for each in told("list", "/s3/backups/nightly")] == ["complete"]
