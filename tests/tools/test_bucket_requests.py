"""How many requests a bucket is asked: each is paid for, and takes its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fault_proxy import Proxy
from tests.s3 import Bucket
from tests.tools.buckets import MIB, BucketHost
from tests.tools.test_agent_commands import told

from virtstore.backups.names import backup_name

_NIGHTS = 16
_NIGHT = datetime(2025, 3, 28, 2, tzinfo=UTC)


@pytest.fixture
def there(
    tmp_path: Path, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> BucketHost:
    host = BucketHost(tmp_path, bucket, monkeypatch)
    host.allow(by=bucket.through(proxy.at))
    return host


@pytest.fixture
def nights(there: BucketHost, bucket: Bucket, proxy: Proxy) -> int:
    """Many backups of two images. Returns how many."""
    there.archive(there.image(size=MIB), "made.zst")
    archive = bucket.get("made.zst")
    for day in range(_NIGHTS):
        for name in ("web", "db"):
            bucket.put(f"b/{backup_name(name, _NIGHT - timedelta(days=day))}", archive)
    proxy.forget()
    return 2 * _NIGHTS


def test_info_of_an_archive_is_a_look_a_read_of_its_end_and_of_what_tells_of_its_image(
    there: BucketHost, proxy: Proxy
) -> None:
    there.archive(there.image(size=MIB // 2), "web.img.zst")
    proxy.forget()
    told("info", "/s3/backups/web.img.zst")
    assert proxy.verbs["GET"] + proxy.verbs["HEAD"] <= 5
    assert proxy.verbs["PUT"] + proxy.verbs["POST"] + proxy.verbs["DELETE"] == 0


def test_backups_looks_at_the_newest_of_each_image_only(
    there: BucketHost, nights: int, proxy: Proxy
) -> None:
    found = told("backups", "/s3/backups/b")
    assert [(each["name"], each["count"], each["size"]) for each in found] == [
        ("db", _NIGHTS, MIB),
        ("web", _NIGHTS, MIB),
    ]
    assert [each["size"] for each in found[0]["backups"]] == [MIB] + [None] * (_NIGHTS - 1)
    assert sum(proxy.verbs.values()) <= 5
    assert proxy.got() < 2 * MIB


def test_a_long_listing_reads_the_end_of_each_archive_once(
    there: BucketHost, nights: int, proxy: Proxy
) -> None:
    assert len(told("list", "-l", "/s3/backups/b")) == nights
    assert sum(proxy.verbs.values()) <= nights + 3
    assert set(proxy.verbs) == {"GET"}


def test_a_listing_costs_a_request_for_a_thousand(
    there: BucketHost, nights: int, proxy: Proxy
) -> None:
    assert len(told("list", "-r", "/s3/backups")) == nights + 2
    assert sum(proxy.verbs.values()) <= 4


def test_prune_asks_of_each_that_goes_a_look_and_its_removal(
    there: BucketHost, bucket: Bucket, nights: int, proxy: Proxy
) -> None:
    done = told("prune", "/s3/backups/b", "web", "--keep-last", _NIGHTS - 5)
    assert sum(each["removed"] for each in done["series"][0]["backups"]) == 5
    assert len(bucket.keys()) == nights + 1 - 5
    assert proxy.verbs["DELETE"] == 5
    assert sum(proxy.verbs.values()) <= 5 * 4 + 8


def test_a_sample_is_chosen_by_names(there: BucketHost, nights: int, proxy: Proxy) -> None:
    told("verify", "/s3/backups/b", "--sample", "0.1%", status=0)
    assert sum(proxy.verbs.values()) <= 12


def test_a_restore_reads_an_archive_in_pieces_of_some_mebibytes(
    there: BucketHost, proxy: Proxy
) -> None:
    image = there.image(size=20 * MIB)
    there.archive(image, "web.img.zst")
    proxy.forget()
    assert there.back("web.img.zst") == image.read_bytes()
    assert proxy.got() < 23 * MIB
    assert proxy.verbs["GET"] <= 8


def test_an_upload_costs_a_request_for_each_part_and_a_few_more(
    there: BucketHost, proxy: Proxy
) -> None:
    there.archive(there.image(), "web.img.zst")
    parts = [each for each in proxy.asked if "partNumber=" in each.target]
    assert len(parts) == 3
    assert len(proxy.asked) - len(parts) <= 13
