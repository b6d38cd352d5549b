"""What is printed: JSON for programs, and text that tells a person the same."""

from __future__ import annotations

import json

import pytest

from virtstore.cli import render
from virtstore.errors import InUse as InUseError
from virtstore.model import (
    Changed,
    CopyResult,
    Entry,
    Filesystem,
    ImageInfo,
    InUse,
    Partition,
    StorageInfo,
)

IMAGE = ImageInfo(
    path="/mnt/x.img",
    host="a",
    type="file",
    size=10 << 30,
    allocated=1 << 20,
    partitions=(Partition(2, 1 << 20, 1 << 30, "83", "root", Filesystem("ext4", label="r")),),
    in_use=(InUse("process", "qemu (pid 8)"), InUse("qemu-lock", "held")),
    warnings=("the backup table is damaged",),
)


def test_json_has_the_fields_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json([Entry("/mnt/ä.img", "a", "file")])
    printed = capsys.readouterr().out
    assert "ä" in printed
    assert json.loads(printed) == [
        {"path": "/mnt/ä.img", "host": "a", "type": "file", "state": "complete"}
    ]


def test_a_failure_is_json_on_stdout_or_a_line_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = InUseError("somebody uses it", host="a", path="/x")
    render.print_error(error, as_json=True)
    out, err = capsys.readouterr()
    told = {"code": "in-use", "message": "somebody uses it", "host": "a", "path": "/x"}
    assert json.loads(out) == {"error": told}
    assert err == ""
    render.print_error(error, as_json=False)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "virtstore: a:/x: somebody uses it\n")


def test_a_path_is_shown_as_it_would_be_typed() -> None:
    assert (render.on("local", "/x"), render.on("a", "/x")) == ("/x", "a:/x")


def test_a_short_listing_marks_directories_and_leftovers() -> None:
    entries = [
        Entry("/d", "local", "directory"),
        Entry("/x", "local", "file", "partial"),
        Entry("/y", "local", "file"),
    ]
    assert render.list_text(entries, long=False).splitlines() == ["/d/", "/x (partial)", "/y"]


def test_a_long_listing_shows_size_contents_and_use() -> None:
    text = render.list_text([IMAGE, Entry("/d", "a", "directory")], long=True)
    head, first, second = text.splitlines()
    assert head.split() == ["TYPE", "SIZE", "ALLOCATED", "CONTENTS", "USE", "PATH"]
    for part in ("10 GiB", "1 MiB", "1 partitions", "process,qemu-lock", "a:/mnt/x.img"):
        assert part in first
    assert second.split() == ["directory", "-", "-", "-", "-", "a:/d"]
    assert head.index("PATH") == first.index("a:/mnt") == second.index("a:/d")


def test_an_archive_of_unknown_size_is_said_to_be_so() -> None:
    archive = ImageInfo("/x.gz", "local", "file", None, 4096, compression="gzip")
    assert "?" in render.list_text([archive], long=True).splitlines()[1].split()
    text = render.info_text(archive)
    assert "not known without unpacking it" in text
    assert "file system" not in text


def test_what_was_found_in_an_archive_is_shown() -> None:
    inside = Filesystem("ext4", None, "root", 1 << 30)
    archive = ImageInfo("/x.zst", "local", "file", 1 << 30, 9, "zstd", filesystem=inside)
    assert "ext4" in render.info_text(archive)


def test_info_shows_partitions_use_and_warnings() -> None:
    text = render.info_text(IMAGE)
    for part in (
        "10737418240 bytes (10 GiB)",
        "partition 2",
        "ext4",
        "process: qemu (pid 8); qemu-lock: held",
        "the backup table is damaged",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("done", "text"),
    [
        (Changed("/x", "local", True, 1 << 30), "/x  1073741824 bytes (1 GiB)"),
        (Changed("/x", "a", False, 1024), "a:/x  1024 bytes (1 KiB), unchanged"),
        (Changed("/x", "local", True), "/x"),
        (
            Changed("/x", "local", True, 5, dry_run=True, plan=("cut", "run")),
            "would cut\nwould run",
        ),
        (Changed("/x", "local", False, 5, dry_run=True), "/x: nothing to do"),
        (
            Changed("/x", "local", True, 2048, filesystem=1024),
            "/x  2048 bytes (2 KiB), file system 1024 bytes (1 KiB)",
        ),
    ],
)
def test_a_change_is_told_with_path_and_real_size(done: Changed, text: str) -> None:
    assert render.changed_text(done) == text


def test_a_copy_that_took_no_time_has_a_rate() -> None:
    result = CopyResult("/x", "/y", 1 << 20, 0, 0, "00", 0.0)
    assert "in 0.0 s" in render.copy_text(result, dry_run=False)
    assert render.copy_text(result, dry_run=True) == "would copy 1 MiB from /x to /y"


def test_a_host_without_any_root_says_so() -> None:
    text = render.storage_text(StorageInfo("a", "1", (), (), (), ()))
    assert "nothing is configured here" in text
