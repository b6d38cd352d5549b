"""Every command on this machine, through the real command line and a real agent."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import warm
from tests.waiting import PATIENCE
from tests.warm import COMMAND

MIB = 1 << 20
CHANGED = {
    "path", "host", "changed", "size", "allocated", "partition", "filesystem", "dry_run", "plan",
}  # fmt: skip
COPIED = {"source", "target", "size", "transferred", "written", "digest", "seconds"}
INFO = {
    "path", "host", "type", "size", "allocated", "compression", "container", "backing", "domain",
    "modified", "owner", "state", "snapshot_of", "snapshots", "filesystem", "partitions",
    "mounted", "in_use", "stored", "cluster_size", "internal_snapshots", "bitmaps", "overlays",
    "made", "source", "moment", "quiesced",
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with one image of random bytes and a hole; `VIRTSTORE_CONFIG` allows it."""
    root = tmp_path / "images"
    root.mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    with (root / "x.img").open("wb") as file:
        file.write(os.urandom(MIB + 512))
        file.truncate(3 * MIB)
    return root


def virtstore(*arguments: object, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = warm.run([*map(str, arguments)])
    assert "Traceback" not in done.stdout + done.stderr
    assert status in (None, done.returncode), done.stderr + done.stdout
    return done


def told(*arguments: object, status: int = 0) -> Any:
    return json.loads(virtstore(*arguments, "--json", status=status).stdout)


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """All that is there: names, inodes, contents."""
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.read_bytes())
        for p in root.rglob("*")
        if p.is_file()
    }


def test_create_allocates_zeros_and_prints_path_and_size(images: Path) -> None:
    done = told("create", images / "new.img", "2M")
    assert set(done) == CHANGED
    assert (done["path"], done["size"], done["changed"]) == (f"{images}/new.img", 2 * MIB, True)
    assert done["allocated"] >= 2 * MIB
    assert (images / "new.img").read_bytes() == bytes(2 * MIB)
    assert told("create", images / "new.img", "2M", status=4)["error"]["code"] == "exists"
    shown = virtstore("create", images / "other.img", "1M").stdout
    assert shown == f"{images}/other.img  1048576 bytes (1 MiB)\n"


def test_info_has_exactly_the_keys_of_the_interface(images: Path) -> None:
    info = told("info", images / "x.img")
    assert set(info) == INFO
    facts = (info["host"], info["type"], info["size"], info["state"], info["in_use"])
    assert facts == ("local", "file", 3 * MIB, "complete", [])


@pytest.mark.parametrize(
    ("seconds", "told_as"),
    [
        (1_795_831_200, "2026-11-28T02:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_info_and_list_say_when_an_image_was_written_to(
    images: Path, seconds: int, told_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    image = images / "x.img"
    os.utime(image, ns=(0, seconds * 10**9 + 987_654_321))
    assert told("info", image)["modified"] == told_as
    assert told("list", "-l", image)[0]["modified"] == told_as
    assert f"{told_as[:10]} {told_as[11:19]} UTC" in virtstore("info", image).stdout


def test_info_and_growfs_see_the_file_system(images: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-L", "r", images / "x.img", "2M"], check=True)
    found = told("info", images / "x.img")["filesystem"]
    assert set(found) == {"type", "uuid", "label", "size", "minimum"}
    assert (found["type"], found["label"], found["size"]) == ("ext4", "r", 2 * MIB)
    assert 0 < found["minimum"] <= 2 * MIB
    before = (images / "x.img").read_bytes()
    assert told("growfs", images / "x.img", "-n")["plan"]
    assert (images / "x.img").read_bytes() == before
    assert told("growfs", images / "x.img")["filesystem"]["size"] == 3 * MIB
    assert not told("growfs", images / "x.img")["changed"]


def test_list_short_long_and_recursive(images: Path) -> None:
    (images / "sub").mkdir()
    (images / "sub" / "y.img").write_bytes(bytes(1000))
    (images / "sub" / "y.img.virtstore-partial").write_bytes(bytes(10))
    (images / "link").symlink_to("x.img")
    short = told("list", images)
    assert [set(each) for each in short] == [{"path", "host", "type", "state"}] * 3
    found = [(each["path"].removeprefix(f"{images}/"), each["type"]) for each in short]
    assert found == [("link", "other"), ("sub", "directory"), ("x.img", "file")]
    long = told("list", images, "-l", "-r")
    states = [(each["path"].removeprefix(f"{images}/"), each["state"]) for each in long]
    assert states[-3:] == [
        ("sub/y.img", "complete"),
        ("sub/y.img", "partial"),
        ("x.img", "complete"),
    ]
    assert set(long[-1]) == INFO
    assert [each["path"] for each in told("list", "local:")] == [str(images)]
    assert virtstore("list", images).stdout.splitlines() == [
        f"{images}/link", f"{images}/sub/", f"{images}/x.img"
    ]  # fmt: skip
    assert told("list", images / "no", status=3)["error"]["code"] == "not-found"


def test_names_that_are_not_utf_8_do_no_harm_to_a_listing(images: Path) -> None:
    Path(os.fsdecode(os.fsencode(images) + b"/\xff.img")).write_bytes(b"data")
    found = {each["path"]: each["type"] for each in told("list", images, "-l", "-r")}
    assert found == {f"{images}/\\xff.img": "other", f"{images}/x.img": "file"}
    assert told("clean", images)["removed"] == []


def test_storage_info_has_exactly_the_keys_of_the_interface(images: Path) -> None:
    info = told("storage-info", "local:")
    assert set(info) == {
        "host",
        "version",
        "directories",
        "volume_groups",
        "filesystems",
        "formats",
    }
    [directory] = info["directories"]
    assert set(directory) == {"path", "access", "filesystem", "total", "free", "snapshots"}
    assert (directory["path"], directory["access"]) == (str(images), "write")
    assert {f["name"] for f in info["formats"]} == {"zstd", "lz4", "lzop", "gzip", "xz"}
    assert all(set(f) == {"name", "read", "write"} for f in info["formats"])
    assert all(set(f) == {"type", "grow", "shrink", "missing"} for f in info["filesystems"])


def test_grow_and_shrink_and_what_is_already_so(images: Path) -> None:
    image = images / "x.img"
    before = image.read_bytes()
    assert told("grow", image, "+1M")["size"] == 4 * MIB
    assert image.read_bytes() == before + bytes(MIB)
    assert not told("grow", image, "4M")["changed"]
    assert told("shrink", image, "-1M")["size"] == 3 * MIB
    assert not told("shrink", image, "3M")["changed"]
    assert told("shrink", image, "1M", status=8)["error"]["code"] == "unsafe"
    assert image.read_bytes() == before
    assert told("shrink", image, "1M", "--discard-data")["size"] == MIB
    assert image.read_bytes() == before[:MIB]
    virtstore("grow", image, "512K", status=2)
    virtstore("shrink", image, "2M", status=2)


def test_copy_says_what_it_did(images: Path) -> None:
    done = told("copy", images / "x.img", images / "y.img")
    assert set(done) == COPIED
    assert (done["source"], done["target"]) == (f"{images}/x.img", f"{images}/y.img")
    assert done["size"] == 3 * MIB
    assert done["written"] <= 2 * MIB  # the hole was not
    assert (images / "y.img").read_bytes() == (images / "x.img").read_bytes()
    assert told("verify", images / "y.img")["digest"] == done["digest"]
    assert told("copy", images / "x.img", images / "y.img", status=4)["error"]["code"] == "exists"
    assert told("copy", images / "y.img", images / "x.img", "--overwrite")["size"] == 3 * MIB
    (images / "sub").mkdir()
    assert told("copy", images / "x.img", images / "sub")["target"] == f"{images}/sub/x.img"


def test_copy_contents_moves_only_what_differs_and_zeroes_the_rest(images: Path) -> None:
    virtstore("copy", images / "x.img", images / "y.img")
    virtstore("grow", images / "y.img", "4M")
    with (images / "y.img").open("r+b") as file:
        file.write(b"differs")
        file.seek(-7, os.SEEK_END)
        file.write(b"differs")
    done = told("copy-contents", images / "x.img", images / "y.img")
    assert set(done) == COPIED
    assert done["written"] <= MIB
    assert (images / "y.img").read_bytes() == (images / "x.img").read_bytes() + bytes(MIB)
    assert told("diff", images / "x.img", images / "y.img", status=1)["different"] == MIB
    virtstore("copy-contents", images / "y.img", images / "x.img", status=7)
    virtstore("copy-contents", images / "x.img", images / "no.img", status=3)
    assert not (images / "no.img").exists()


@pytest.mark.parametrize(("form", "suffix"), [("zstd", ".zst"), ("lzop", ".lzo"), ("xz", ".xz")])
def test_compress_verify_and_uncompress(images: Path, form: str, suffix: str) -> None:
    image, archive = images / "x.img", images / f"x.img{suffix}"
    before = image.read_bytes()
    done = told("compress", image, "--format", form)
    assert set(done) == CHANGED
    assert (done["path"], done["size"]) == (str(archive), 3 * MIB)  # what a guest sees
    assert not image.exists()
    found = told("verify", archive)
    assert set(found) == {"path", "host", "size", "compression", "digest", "checked"}
    assert (found["size"], found["compression"]) == (3 * MIB, form)
    assert told("uncompress", archive)["size"] == 3 * MIB
    assert image.read_bytes() == before
    assert not archive.exists()
    virtstore("uncompress", image, status=11)
    virtstore("compress", image, "--keep", "--format", form)
    with archive.open("r+b") as file:
        file.seek(700_000)
        file.write(b"damage")
    assert told("verify", archive, status=9)["error"]["code"] == "corrupt"
    image.unlink()
    assert told("uncompress", archive, status=9)["error"]["path"]
    assert [path.name for path in images.iterdir()] == [archive.name]


def test_diff_counts_the_bytes_of_blocks_that_differ(images: Path) -> None:
    virtstore("copy", images / "x.img", images / "y.img")
    with (images / "y.img").open("r+b") as file:
        file.seek(4095)
        file.write(bytes(b ^ 1 for b in (images / "x.img").read_bytes()[4095:4097]))
    done = virtstore("diff", images / "x.img", images / "y.img", "--json", status=1)
    assert done.stderr == ""  # as of cmp and diff: nothing went wrong
    found = json.loads(done.stdout)
    assert set(found) == {"left", "right", "size", "different", "granularity"}
    assert (found["different"], found["granularity"]) == (8192, 4096)
    done = virtstore("diff", images / "x.img", images / "y.img", status=1)
    assert ("differ: 8 KiB" in done.stdout, done.stderr) == (True, "")
    assert told("diff", images / "x.img", images / "x.img")["different"] == 0
    told("diff", images / "x.img", images / "none.img", status=3)


def test_clean_removes_leftovers_only(images: Path) -> None:
    (images / "y.img.virtstore-partial").write_bytes(bytes(5000))
    dry = told("clean", images, "--dry-run")
    assert set(dry) == {"path", "host", "removed", "freed", "dry_run"}
    assert (dry["removed"], dry["dry_run"]) == ([f"{images}/y.img"], True)
    assert told("info", images / "y.img")["state"] == "partial"
    assert told("clean", images)["removed"] == [f"{images}/y.img"]
    assert [path.name for path in images.iterdir()] == ["x.img"]
    assert told("clean", images)["removed"] == []


def test_clean_tells_what_it_leaves_and_why(images: Path) -> None:
    left = images / "y.img.virtstore-partial"
    left.write_bytes(bytes(5000))
    (images / "z.img.virtstore-partial").write_bytes(bytes(5000))
    with left.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as whoever writes it has
        found = told("clean", images)
        assert found["removed"] == [f"{images}/z.img"]
        [why] = found["warnings"]
        assert re.match(f"{images}/y.img stays: .*try again", why)
        text = virtstore("clean", images).stdout
        assert text.startswith(f"{images}: nothing is removed\nnote: {images}/y.img stays: ")
        error = told("clean", images / "y.img", status=6)["error"]
        assert (error["code"], error["path"]) == ("in-use", f"{images}/y.img")
        assert "try again" in error["message"]
    assert told("clean", images)["removed"] == [f"{images}/y.img"]


def test_a_refusal_says_what_to_do(images: Path) -> None:
    (images / "sub").mkdir()
    (images / "link.img").symlink_to("x.img")
    (images / "y.img").write_bytes(bytes(4096))
    for act, status, remedy in (
        (("create", images / "x.img", "1M"), 4, "choose another name, or rename or delete"),
        (("create", images / "sub", "1M"), 4, "choose another name"),
        (("rename", images / "x.img", "y.img"), 4, "choose another name, or rename or delete"),
        (("info", images), 3, "'virtstore list' shows what is in it"),
        (("info", images / "sub"), 3, "'virtstore list' shows what is in it"),
        (("info", images / "link.img"), 5, "write the path that it leads to"),
        (("copy", images / "x.img", images / "x.img"), 2, "write another target"),
    ):
        assert remedy in told(*act, status=status)["error"]["message"], act


def test_delete_removes_for_good_and_only_once(images: Path) -> None:
    done = told("delete", images / "x.img")
    assert set(done) == CHANGED
    assert list(images.iterdir()) == []
    assert told("delete", images / "x.img", status=3)["error"] == {
        "code": "not-found",
        "message": "no such image",
        "host": "local",
        "path": f"{images}/x.img",
    }


def test_an_image_in_use_is_left_alone_and_the_user_is_named(images: Path) -> None:
    image = images / "x.img"
    before = tree(images)
    argv = ["sleep", "infinity"]
    with image.open("r+b") as file, subprocess.Popen(argv, stdin=file) as user:
        try:
            for line in (
                "delete",
                "rename {} y.img",
                "shrink {} 2M",
                "compress",
                "copy {} {}.2",
                "growfs",
            ):
                words = line if "{}" in line else f"{line} {{}}"
                error = told(*words.format(image, image).split(), status=6)["error"]
                assert f"sleep (pid {user.pid})" in error["message"]
            assert tree(images) == before
            virtstore("copy", image, images / "y.img", "--allow-in-use")
        finally:
            user.kill()


@pytest.mark.parametrize(
    "line",
    [
        "create {}/new.img 1M",
        "grow {}/x.img 4M",
        "shrink {}/x.img 2M",
        "delete {}/x.img",
        "rename {}/x.img y.img",
        "copy {}/x.img {}/y.img",
        "copy {}/x.img {}/y.img --archive",
        "copy {}/x.img {}/z.img --overwrite",
        "copy-contents {}/z.img {}/x.img",
        "compress {}/x.img",
        "uncompress {}/a.img.gz",
        "clean {}",
    ],
)
def test_a_dry_run_changes_nothing_and_says_what_would_be_done(images: Path, line: str) -> None:
    (images / "z.img").write_bytes(bytes(MIB))
    (images / "l.img.virtstore-partial").write_bytes(bytes(5000))
    subprocess.run("head -c 100000 x.img | gzip > a.img.gz", shell=True, cwd=images, check=True)
    before = tree(images)
    shown = virtstore(*line.format(images, images).split(), "-n")
    assert shown.stdout.startswith("would ")
    assert tree(images) == before


def test_quiet_says_nothing_and_progress_is_lines_of_json(images: Path) -> None:
    done = virtstore("copy", images / "x.img", images / "y.img", "-q")
    assert (done.stdout, done.stderr) == ("", "")
    done = virtstore("copy", images / "x.img", images / "z.img", "--json", "--progress")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events
    assert all(set(e) == {"type", "operation", "done", "total", "stage"} for e in events)
    assert (events[-1]["done"], events[-1]["total"]) == (3 * MIB, 3 * MIB)
    assert [e["done"] for e in events] == sorted(e["done"] for e in events)
    assert set(json.loads(done.stdout)) == COPIED
    done = virtstore("verify", images / "x.img", "--progress")
    assert "verify: 100 %" in done.stderr
    assert virtstore("verify", images / "x.img").stderr == ""  # no terminal, nothing asked


def test_a_reader_that_has_seen_enough_gets_no_traceback(images: Path) -> None:
    for number in range(300):
        (images / f"{number:060}.img").touch()
    argv = [sys.executable, "-c", COMMAND, "list", str(images)]
    for unbuffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""


@pytest.mark.parametrize(
    "command",
    [("grow", "9M"), ("shrink", "1M"), ("growfs",), ("snapshot",), ("verify",), ("compress",)],
)
def test_where_only_a_part_was_left_that_is_said(images: Path, command: tuple[str, ...]) -> None:
    (images / "x.img").rename(images / "x.img.virtstore-partial")
    verb, *rest = command
    error = told(verb, images / "x.img", *rest, status=3)["error"]
    assert "'virtstore clean'" in error["message"]
    assert error["path"] == str(images / "x.img")


def test_a_gpt_is_not_cut_and_resize_is_named_that_can(images: Path) -> None:
    image = images / "gpt.img"
    told("create", image, "64M")
    script = "label: gpt\nstart=2048, size=20480\n"
    subprocess.run(
        ["/usr/sbin/sfdisk", "-q", image], input=script, check=True, text=True, timeout=PATIENCE
    )
    before = image.read_bytes()
    for size in ("32M", "1M"):  # behind the partition, and before its end
        message = told("shrink", image, size, status=8)["error"]["message"]
        assert "'virtstore resize'" in message
    assert image.read_bytes() == before
    assert told("shrink", image, "32M", "--discard-data")["size"] == 32 * MIB


def test_an_image_may_have_an_odd_name_but_not_that_of_an_archive(images: Path) -> None:
    odd = images / "tab\there.img"
    odd.write_bytes(bytes(MIB))
    assert told("info", odd)["size"] == MIB
    assert "tab?here.img" in virtstore("info", odd).stdout
    for words in (["create", images / "x.img.zst", "1M"], ["copy", odd, images / "x.gz"]):
        assert told(*words, status=2)["error"]["code"] == "usage"


def test_a_long_list_has_all_keys_of_whatever_is_there(images: Path) -> None:
    (images / "sub").mkdir()
    (images / "link").symlink_to("x.img")
    listed = {each["path"]: each for each in told("list", "-l", images)}
    assert {each["type"] for each in listed.values()} == {"file", "directory", "other"}
    assert all(set(each) >= INFO for each in listed.values())


def test_an_archive_called_another_formats_becomes_an_image_that_can_be_read(
    images: Path,
) -> None:
    contents = (images / "x.img").read_bytes()
    made = told("compress", images / "x.img")["path"]
    os.rename(made, images / "y.img.gz")
    assert told("uncompress", images / "y.img.gz")["path"] == f"{images}/y.img"
    assert told("verify", images / "y.img")["size"] == len(contents)
    assert (images / "y.img").read_bytes() == contents


def test_a_gpt_that_ends_before_the_cut_does_not_keep_an_image_from_being_cut(
    images: Path,
) -> None:
    path = images / "gpt.img"
    path.write_bytes(bytes(60 * MIB))
    subprocess.run(["sfdisk", "-q", path], input=b"label: gpt\n,20M,L\n", check=True)
    before = path.read_bytes()
    told("grow", path, "+4096")
    assert told("shrink", path, "-4096")["changed"]
    assert path.read_bytes() == before
    assert told("shrink", path, "-4096", status=8)["error"]["code"] == "unsafe"
