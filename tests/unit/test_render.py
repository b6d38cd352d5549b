"""What is printed: JSON for programs, and text that tells a person the same."""

from __future__ import annotations

import json

import pytest

from virtstore.cli import images, render
from virtstore.errors import InUse as InUseError
from virtstore.model import (
    Changed,
    Cleaned,
    CopyResult,
    Difference,
    DirectoryInfo,
    Entry,
    Filesystem,
    FilesystemSupport,
    ImageInfo,
    InUse,
    MovedPartition,
    Partition,
    ResizedFilesystem,
    StorageInfo,
    Verified,
    VolumeGroup,
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


def test_a_failure_has_its_lines_and_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = InUseError("write:\n\n[[directory]]\n\x1b]0;owned\x07\x9b2J\r", host="a", path="/x\x1b")
    render.print_error(error, as_json=False)
    out, err = capsys.readouterr()
    assert err == "virtstore: a:/x?: write:\n\n[[directory]]\n?]0;owned??2J?\n"
    render.print_error(error, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["message"] == error.message


EVIL = "\x1b]0;owned\x07\x1b[2J\nall is well\r"


def _texts_of_an_evil_host() -> dict[str, str]:
    """What is printed of answers that say `EVIL` wherever a host can say something."""
    filesystem = Filesystem(EVIL, EVIL, EVIL)
    image = ImageInfo(
        path=EVIL,
        host=EVIL,
        type=EVIL,  # type: ignore[arg-type]
        size=1,
        allocated=1,
        compression=EVIL,  # type: ignore[arg-type]
        state=EVIL,  # type: ignore[arg-type]
        snapshot_of=EVIL,
        snapshots=(EVIL,),
        filesystem=filesystem,
        partitions=(Partition(1, 1, 1, EVIL, EVIL, filesystem),),
        in_use=(InUse(EVIL, EVIL),),  # type: ignore[arg-type]
        warnings=(EVIL,),
    )
    bare = ImageInfo(EVIL, "a", "file", 1, 1, filesystem=filesystem)
    storage = StorageInfo(
        EVIL,
        EVIL,
        (DirectoryInfo(EVIL, EVIL, EVIL, 1, 1, True),),  # type: ignore[arg-type]
        (VolumeGroup(EVIL, EVIL, 1, 1, 1),),  # type: ignore[arg-type]
        (FilesystemSupport(EVIL, True, True, (EVIL,)),),
        (),
        (EVIL,),
    )
    copied = CopyResult(EVIL, EVIL, 1, 1, 1, EVIL, 1.0)
    changed = Changed(EVIL, "a", True, 1, warnings=(EVIL,))
    verified = Verified(EVIL, "a", 1, None, EVIL, "digest")
    return {
        "info": render.info_text(image),
        "info, no partitions": render.info_text(bare),
        "list": render.list_text([image], long=False),
        "list -l": render.list_text([image, bare, Entry(EVIL, EVIL, "other")], long=True),
        "storage-info": render.storage_text(storage),
        "a change": render.changed_text(changed),
        "a dry run": render.changed_text(Changed(EVIL, "a", True, dry_run=True, plan=(EVIL,))),
        "a copy": render.copy_text(copied, dry_run=False),
        "a copy, dry run": render.copy_text(copied, dry_run=True),
        "verify": render.verified_text(verified),
        "diff": render.difference_text(Difference(EVIL, EVIL, 1, 1, 1)),
        "diff of equals": render.difference_text(Difference(EVIL, EVIL, 1, 0, 1)),
        "clean": images._cleaned_text(Cleaned(EVIL, "a", (EVIL,), 1)),
    }


@pytest.mark.parametrize(("what", "text"), _texts_of_an_evil_host().items())
def test_nothing_that_a_host_says_is_obeyed_by_the_terminal(what: str, text: str) -> None:
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("all is well") for line in lines)


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
            Changed("/x", "local", True, 2048, filesystem=ResizedFilesystem("swap", 1024)),
            "/x  2048 bytes (2 KiB), swap file system 1024 bytes (1 KiB)",
        ),
        (
            Changed("/x", "local", True, 9, None, 2, ResizedFilesystem("ext4", 8), warnings=("w",)),
            "/x  9 bytes (9 B), partition 2, ext4 file system 8 bytes (8 B)\nnote: w",
        ),
        (
            Changed("/x", "local", True, 9, None, 1, moved=MovedPartition(2, 5, 3, 1)),
            "/x  9 bytes (9 B), partition 1; partition 2 moved from byte 3 to 5",
        ),
    ],
)
def test_a_change_is_told_with_path_and_real_size(done: Changed, text: str) -> None:
    assert render.changed_text(done) == text


def test_a_copy_that_took_no_time_has_a_rate() -> None:
    result = CopyResult("/x", "/y", 1 << 20, 0, 0, "00", 0.0)
    assert "in 0.0 s" in render.copy_text(result, dry_run=False)
    assert render.copy_text(result, dry_run=True) == "would copy 1 MiB from /x to /y"


@pytest.mark.parametrize(
    ("host", "path"),
    [("a", "a:/DIRECTORY"), ("local", "/DIRECTORY"), ("ssh://a:99", "ssh://a:99/DIRECTORY")],
)
def test_a_host_without_any_root_says_so_and_how_to_see_what_to_write(host: str, path: str) -> None:
    text = render.storage_text(StorageInfo(host, "1", (), (), (), ()))
    assert f"nothing is configured here; 'virtstore list {path}'" in text


#: What turns a line around, hides a part of it, or commands a terminal.
ODD = ["\u202e", "\u2066", "\u200b", "\ufeff", "\x7f", "\x9b", "\x1b", "\u2028", "\U000e0041"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_json_shows_a_terminal_nothing_that_it_obeys_and_means_the_same(
    capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    path = f"/i/web{odd}gmi.exe ü 日本"
    render.print_json(Entry(path, "a", "file"))
    told = capsys.readouterr().out
    render.print_error(InUseError("somebody has it", path=path), as_json=True)
    error = capsys.readouterr().out
    assert odd not in told + error
    assert "ü 日本" in told
    assert json.loads(told)["path"] == json.loads(error)["error"]["path"] == path
    assert odd not in render.list_text([Entry(path, "a", "file")], long=False)


def test_what_nothing_lacks_has_no_key_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    whole = DirectoryInfo("/srv/a", "write", "ext4", 2, 1, False)
    lesser = DirectoryInfo("/srv/b", "write", "fuse", 2, 1, False, ("reserved space",))
    told = StorageInfo("a", "1", (whole, lesser), (), (), ())
    render.print_json(told)
    keys = [set(each) for each in json.loads(capsys.readouterr().out)["directories"]]
    assert keys[1] - keys[0] == {"lacks"}
    text = render.storage_text(told)
    assert "/srv/b lacks reserved space: zeros are written instead" in text
    assert "/srv/a lacks" not in text
