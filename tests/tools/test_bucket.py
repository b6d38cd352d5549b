"""Archives in a bucket: everything that can be done with one there, and what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.s3 import Bucket
from tests.tools.buckets import MIB, SIZE, BucketHost
from tests.tools.test_agent_commands import told, tree, virtstore
from tests.warm import COMMAND

import virtstore as api


@pytest.fixture
def there(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> BucketHost:
    return BucketHost(tmp_path, bucket, monkeypatch)


def test_an_image_is_archived_in_a_bucket_and_comes_back(
    there: BucketHost, bucket: Bucket, tmp_path: Path
) -> None:
    image = there.image()
    made = told("copy", "--archive", image, "/s3/backups/web.img.zst")
    assert (made["target"], made["size"]) == ("/s3/backups/web.img.zst", SIZE)
    assert bucket.keys() == ["web.img.zst"]
    assert bucket.uploads() == []
    (tmp_path / "x.zst").write_bytes(bucket.get("web.img.zst"))  # an archive like any other
    subprocess.run(["zstd", "-dqf", tmp_path / "x.zst"], check=True)
    assert (tmp_path / "x").read_bytes() == image.read_bytes()
    verified = told("verify", "/s3/backups/web.img.zst")
    assert (verified["digest"], verified["checked"]) == (made["digest"], "digest")
    assert told("verify", "--quick", "/s3/backups/web.img.zst")["checked"] == "checksums"
    told("copy", "/s3/backups/web.img.zst", there.images / "back.img")
    assert (there.images / "back.img").read_bytes() == image.read_bytes()
    assert virtstore("diff", image, "/s3/backups/web.img.zst").returncode == 0


def test_a_bucket_is_a_directory_of_archives(there: BucketHost, bucket: Bucket) -> None:
    image = there.image(size=MIB)
    told("copy", "--archive", image, "/s3/backups/")
    told("copy", "--archive", image, "/s3/backups/site-a/")
    told("copy", "--archive", "--overwrite", image, "/s3/backups/site-a")
    assert told("copy", "--archive", image, "/s3/backups/site-b")["target"] == "/s3/backups/site-b"
    bucket.put("notes.txt", b"of the administrator")
    assert bucket.keys() == ["notes.txt", "site-a/web.img.zst", "site-b", "web.img.zst"]
    found = [(each["path"], each["type"]) for each in told("list", "/s3/backups")]
    assert found == [
        ("/s3/backups/notes.txt", "object"),
        ("/s3/backups/site-a", "directory"),
        ("/s3/backups/site-b", "object"),
        ("/s3/backups/web.img.zst", "object"),
    ]
    long = told("list", "-l", "-r", "/s3/backups")
    archives = [each["path"] for each in long if each.get("compression") == "zstd"]
    assert archives == [
        "/s3/backups/site-a/web.img.zst",
        "/s3/backups/site-b",
        "/s3/backups/web.img.zst",
    ]
    assert {"path": "/s3/backups", "host": "local", "type": "bucket", "state": "complete"} in told(
        "list", "local:"
    )
    assert told("list", "/s3/backups/none", status=3)["error"]["code"] == "not-found"
    assert told("list", "/s3/backups/none/", status=3)["error"]["code"] == "not-found"


def test_info_tells_of_an_archive_what_is_in_it(there: BucketHost) -> None:
    image = there.image(size=8 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "root", image], check=True)
    told("copy", "--archive", image, "/s3/backups/web.img.zst")
    info = told("info", "/s3/backups/web.img.zst")
    facts = {name: info[name] for name in ("type", "size", "compression", "state", "in_use")}
    assert facts == {
        "type": "object",
        "size": 8 * MIB,
        "compression": "zstd",
        "state": "complete",
        "in_use": [],
    }
    assert info["filesystem"]["label"] == "root"
    assert info["source"].endswith(f":{image}")
    assert info["allocated"] == info["stored"] > 0
    assert info["modified"] is not None
    assert "/s3/backups/web.img.zst" in virtstore("info", "/s3/backups/web.img.zst").stdout


def test_files_are_taken_out_of_an_archive_without_fetching_it(
    there: BucketHost, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc" / "hostname").write_text("golden\n")
    image = there.images / "golden.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", files, image, "16M"], check=True)
    told("copy", "--archive", image, "/s3/backups/")
    listed = told("files", "/s3/backups/golden.img.zst", "/etc")
    assert [each["path"] for each in listed] == ["/etc/hostname"]
    told("extract", "/s3/backups/golden.img.zst", "/etc/hostname", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "hostname").read_text() == "golden\n"


def test_contents_of_an_archive_replace_those_of_an_image(there: BucketHost) -> None:
    image = there.image(size=3 * MIB)
    there.archive(image, "web.img.zst")
    before = image.read_bytes()
    image.write_bytes(os.urandom(MIB) + before[MIB:])
    done = told("copy-contents", "/s3/backups/web.img.zst", image)
    assert image.read_bytes() == before
    assert done["written"] <= 2 * MIB


_ODD = ("with space.zst", "ünï¢ödé-日本.zst", "a+b&c=d%20e;f,g.zst", "~'\"()!*?#.zst", "@:$.zst")


def test_a_key_may_have_odd_letters(there: BucketHost, bucket: Bucket) -> None:
    image = there.image(size=MIB // 4)
    with there.session() as host:
        for key in _ODD:
            path = f"/s3/backups/d {key}/{key}"
            target = host.image(str(image)).copy(host.image(path), archive=True)
            assert bucket.keys() == [f"d {key}/{key}"]
            assert [each.path for each in host.list(f"/s3/backups/d {key}")] == [path]
            assert target.verify().digest == target.digest
            target.delete()
            bucket.nothing_is_left()


def test_a_prefix_keeps_others_keys_out(there: BucketHost, bucket: Bucket) -> None:
    there.allow(prefix="site-a/")
    there.archive(there.image(size=MIB), "web.img.zst")
    bucket.put("site-b/web.img.zst", b"another's")
    bucket.put("site-a2", b"another's")
    assert [each["path"] for each in told("list", "-r", "/s3/backups")] == [
        "/s3/backups/web.img.zst"
    ]
    assert bucket.keys() == ["site-a/web.img.zst", "site-a2", "site-b/web.img.zst"]
    told("delete", "/s3/backups/web.img.zst")
    assert bucket.keys() == ["site-a2", "site-b/web.img.zst"]


def test_what_is_no_archive_is_shown_and_not_taken_for_one(
    there: BucketHost, bucket: Bucket
) -> None:
    bucket.put("raw.img", os.urandom(MIB))
    bucket.put("empty.img.zst", b"")
    there.archive(there.image(size=MIB), "cut.img.zst")
    bucket.put("cut.img.zst", bucket.get("cut.img.zst")[:5000])
    bucket.put("disk.qcow2", b"QFI\xfb\0\0\0\x03" + bytes(600))
    listed = {each["path"].rpartition("/")[2]: each for each in told("list", "-l", "/s3/backups")}
    assert set(listed) == {"raw.img", "empty.img.zst", "cut.img.zst", "disk.qcow2"}
    assert listed["raw.img"]["compression"] is None
    assert told("verify", "/s3/backups/empty.img.zst", status=9)["error"]["code"] == "corrupt"
    assert told("verify", "/s3/backups/cut.img.zst", status=9)["error"]["code"] == "corrupt"
    told("copy", "/s3/backups/raw.img", there.images / "raw.img")
    assert (there.images / "raw.img").read_bytes() == bucket.get("raw.img")


def test_what_only_an_image_can_is_refused_with_what_to_do_instead(
    there: BucketHost, bucket: Bucket
) -> None:
    image = there.image(size=MIB)
    there.archive(image, "web.img.zst")
    before = bucket.get("web.img.zst")
    with there.session() as host:
        new, web = host.image("/s3/backups/new.img"), host.image("/s3/backups/web.img.zst")
        here = host.image(str(image))
        acts: list[Callable[[], object]] = [
            lambda: host.create("/s3/backups/new.img", "1M"),
            lambda: host.create("/s3/backups/new.qcow2", "1M"),
            lambda: here.copy(new),
            lambda: here.copy(web, overwrite=True),
            lambda: here.copy_contents(web),
            lambda: web.grow("+1M"),
            lambda: web.shrink("1M"),
            web.growfs,
            lambda: web.shrinkfs("minimum"),
            lambda: web.resize("2M"),
            lambda: web.resize("2M", dry_run=True),
            web.snapshot,
            lambda: web.rename("x.img.zst"),
            web.compress,
            web.uncompress,
            lambda: web.uncompress(keep=True),
        ]
        for act in acts:
            with pytest.raises(api.Unsupported, match="copy") as refused:
                act()
            assert (refused.value.host, refused.value.path or "")[1].startswith("/s3/backups/")
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])
    assert bucket.get("web.img.zst") == before


def test_what_is_not_there_is_not_found_whatever_was_to_be_done_with_it(
    there: BucketHost, bucket: Bucket
) -> None:
    image = there.image(size=MIB)
    for act in _acts_on_what_is_there("/s3/backups/none.zst", image):
        assert told(*act, status=3)["error"]["message"] == "no such image", act
    there.allow(by=replace(bucket, name="no-such-bucket"))
    for act in _acts_on_what_is_there("/s3/backups/none.zst", image):
        error = told(*act, status=3)["error"]
        assert "there is no bucket 'no-such-bucket'" in error["message"], act
        assert "the configuration" in error["message"]
    assert [each.name for each in there.images.iterdir()] == ["web.img"]


def _acts_on_what_is_there(path: str, image: Path) -> list[tuple[object, ...]]:
    return [
        ("info", path),
        ("verify", path),
        ("diff", path, image),
        ("delete", path),
        ("rename", path, "new.zst"),
        ("snapshot", path),
        ("grow", path, "+1M"),
        ("shrink", path, "1M"),
        ("growfs", path),
        ("shrinkfs", path, "minimum"),
        ("resize", path, "2M"),
        ("compress", path),
        ("uncompress", path),
        ("copy-contents", image, path),
        ("copy-contents", path, image),
        ("copy", path, image.with_name("back.img")),
    ]


def test_a_name_that_is_taken_is_not_replaced_unless_that_is_asked_for(
    there: BucketHost, bucket: Bucket
) -> None:
    image = there.image(size=MIB)
    there.archive(image, "web.img.zst")
    before = bucket.get("web.img.zst")
    there.image(size=MIB, seed=2)
    assert told("copy", "--archive", image, "/s3/backups/", status=4)["error"]["code"] == "exists"
    assert bucket.get("web.img.zst") == before
    told("copy", "--archive", "--overwrite", image, "/s3/backups/")
    assert there.back("web.img.zst") == image.read_bytes()
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_a_bucket_that_takes_new_archives_only_gives_none_away(
    there: BucketHost, bucket: Bucket
) -> None:
    there.allow(access="append")
    image = there.image(size=MIB)
    there.archive(image, "web.img.zst")
    for words in (
        ("delete", "/s3/backups/web.img.zst"),
        ("copy", "--archive", "--overwrite", image, "/s3/backups/web.img.zst"),
        ("clean", "/s3/backups"),
    ):
        assert told(*words, status=5)["error"]["code"] == "denied"
    assert there.back("web.img.zst") == image.read_bytes()
    assert bucket.keys() == ["web.img.zst"]


def test_a_key_can_be_narrowed_to_a_directory_of_the_bucket(
    there: BucketHost, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = there.image(size=MIB)
    there.archive(image, "b/theirs.img.zst")
    words = f"--config {there.config} --access append --restrict-to /s3/backups/a"
    with there.session() as source:
        here = source.image(str(image))
        monkeypatch.setenv("VIRTSTORE_AGENT", f"{sys.executable} -P -m virtstore.agent {words}")
        with api.connect() as narrow:
            made = here.copy(narrow.image("/s3/backups/a/web.img.zst"), archive=True)
            assert made.verify().digest == made.digest
            assert [(root.path, root.type) for root in narrow.list()] == [
                ("/s3/backups/a", "bucket")
            ]
            with pytest.raises(api.Denied):
                made.delete()
            for path in ("/s3/backups", "/s3/backups/b", "/s3/backups/ab"):
                with pytest.raises(api.Denied):
                    narrow.list(path)
    assert bucket.keys() == ["a/web.img.zst", "b/theirs.img.zst"]


def test_a_dry_run_leaves_nothing_in_the_bucket(there: BucketHost, bucket: Bucket) -> None:
    image = there.image(size=MIB)
    told("copy", "-n", "--archive", image, "/s3/backups/")
    told("backup", "-n", image, "/s3/backups/nightly")
    bucket.nothing_is_left()
    there.archive(image, "web.img.zst")
    assert told("delete", "-n", "/s3/backups/web.img.zst")["plan"]
    assert bucket.keys() == ["web.img.zst"]


def test_what_an_image_is_backed_up_to_is_told_pruned_and_restored(
    there: BucketHost, bucket: Bucket, tmp_path: Path
) -> None:
    image = there.image(size=2 * MIB)
    first = there.image(size=2 * MIB).read_bytes()
    [row] = told("backup", image, "/s3/backups/nightly")
    assert row["error"] is None
    with image.open("r+b") as file:
        file.write(os.urandom(1000))
    [second] = told("backup", image, "/s3/backups/nightly", "--verify")
    assert second["base"] == row["target"]
    [web] = told("backups", "/s3/backups/nightly")
    assert (web["name"], web["count"], web["size"]) == ("web", 2, 2 * MIB)
    assert [each["whole"] for each in web["backups"]] == [True, True]
    assert "web" in virtstore("backups", "/s3/backups/nightly", "--max-age", "1h").stdout
    told("restore", row["target"], there.images / "first.img")
    assert (there.images / "first.img").read_bytes() == first
    told("restore", "/s3/backups/nightly/web", there.images / "newest.img")
    assert (there.images / "newest.img").read_bytes() == image.read_bytes()
    done = told("prune", "/s3/backups/nightly", "--keep-last", 1)
    assert [each["path"] for each in done["series"][0]["backups"] if each["removed"]] == [
        row["target"]
    ]
    assert bucket.keys() == [second["target"].removeprefix("/s3/backups/")]
    assert virtstore("verify", "/s3/backups/nightly").returncode == 0
    assert virtstore("verify", "/s3/backups/nightly", "--sample", "100%").returncode == 0


def test_a_bucket_that_is_not_there_is_no_fault_of_what_is_copied_to_it_or_from_it(
    there: BucketHost, bucket: Bucket
) -> None:
    image = there.image(size=MIB)
    there.allow(by=replace(bucket, name="no-such-bucket"))
    archive = "/s3/backups/x.zst"
    error = told("copy", "--archive", image, archive, status=3)["error"]
    assert error["path"] == archive
    assert "there is no bucket 'no-such-bucket'" in error["message"]
    error = told("copy", archive, there.images / "back.img", status=3)["error"]
    assert error["path"] == archive
    assert [each.name for each in there.images.iterdir()] == ["web.img"]


def test_a_storage_info_and_a_doctor_tell_of_the_bucket(there: BucketHost) -> None:
    places = told("storage-info", "local:")["places"]
    assert [(each["path"], each["type"], each["access"]) for each in places] == [
        ("/s3/backups", "bucket", "write")
    ]
    shown = virtstore("storage-info", "local:").stdout
    assert "/s3/backups write bucket - - no" in " ".join(shown.split())
    findings = json.loads(virtstore("doctor", "--json", status=None).stdout)
    about = [each for each in findings if "/s3/backups" in each["what"]]
    assert [each["severity"] for each in about] == ["note", "ok"]  # http:// is not https://


def test_an_archive_is_shown_to_other_programs_and_goes_through_pipes(there: BucketHost) -> None:
    image = there.image(size=2 * MIB)
    with image.open("rb") as file:
        argv = [sys.executable, "-c", COMMAND, "copy", "--archive", "-", "/s3/backups/web.img.zst"]
        subprocess.run(argv, stdin=file, check=True, capture_output=True)
    argv = [sys.executable, "-c", COMMAND, "copy", "/s3/backups/web.img.zst", "-"]
    assert subprocess.run(argv, check=True, capture_output=True).stdout == image.read_bytes()
    copy = there.images / "exported.img"
    run = f"qemu-img convert -f raw -O raw $uri {copy}"
    virtstore("export", "/s3/backups/web.img.zst", "--run", run)
    assert copy.read_bytes() == image.read_bytes()


def test_python_takes_a_bucket_like_any_place(there: BucketHost) -> None:
    image = there.image(size=MIB)
    with api.connect(config=str(there.config)) as host:
        copied = host.image(str(image)).copy(host.image("/s3/backups/"), archive=True)
        assert copied.path == "/s3/backups/web.img.zst"
        assert copied.info().type == "object"
        assert copied.verify().digest == copied.digest
        copied.delete()
        assert host.list("/s3/backups") == []
    assert tree(there.images).keys() == {"web.img"}
