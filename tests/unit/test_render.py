"""What is printed: JSON for programs, and text that tells a person the same."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import msgspec
import pytest

from virtstore.cli import images, render
from virtstore.cli.image_text import info_text, list_text
from virtstore.cli.storage_text import storage_text
from virtstore.cli.terminal import Screen, columns
from virtstore.errors import InUse as InUseError
from virtstore.model import (
    Changed,
    Cleaned,
    CopyResult,
    Difference,
    DirectoryInfo,
    Domain,
    Entry,
    Filesystem,
    FilesystemSupport,
    ImageInfo,
    InUse,
    MovedPartition,
    Partition,
    ResizedFilesystem,
    StorageInfo,
    ThinPool,
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


@pytest.mark.parametrize(
    "value",
    [
        [],
        [{"a": [1, {"b": "x\ny"}]}, None, ["é"]],
        (Entry("/a", "b", "directory"),),
        Changed(path="/a", host="b", changed=True),
        Cleaned(path="/a", host="b", removed=("/x", "/y"), freed=5, dry_run=False),
        Cleaned(path="/a", host="b", removed=(), freed=0, dry_run=False),
        ImageInfo("/a", "b", "file", 1, 1, filesystem=Filesystem("ext4"), warnings=("one", "two")),
        {"error": {"code": "x"}},
    ],
)
def test_a_document_in_pieces_is_the_document(value: object) -> None:
    assert "".join(render.json_pieces(value)) == render.json_text(value)


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


COLOURED = Screen(1000, colour=True)


def _uncoloured(text: str) -> str:
    """Without the colours that virtstore uses, each of which ends where it began to matter."""
    return re.sub("\x1b\\[(?:31|33|36)m([^\x1b]*)\x1b\\[0m", r"\1", text)


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
        domain=Domain(EVIL, EVIL),
        owner=EVIL,
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
        (VolumeGroup(EVIL, EVIL, 1, 1, 1, (ThinPool(EVIL, 1, 1),)),),  # type: ignore[arg-type]
        (FilesystemSupport(EVIL, True, True, (EVIL,)),),
        (),
        (EVIL,),
    )
    copied = CopyResult(EVIL, EVIL, 1, 1, 1, EVIL, 1.0)
    changed = Changed(EVIL, "a", True, 1, warnings=(EVIL,))
    verified = Verified(EVIL, "a", 1, None, EVIL, "digest")
    return {
        "info": info_text(image),
        "info, no partitions": info_text(bare),
        "list": list_text([image], long=False),
        "list -l": list_text([image, bare, Entry(EVIL, EVIL, "other")], long=True),
        "storage-info": storage_text(storage),
        "info on a terminal": _uncoloured(info_text(image, screen=COLOURED)),
        "list -l on a terminal": _uncoloured(list_text([image], long=True, screen=COLOURED)),
        "storage-info on a terminal": _uncoloured(storage_text(storage, screen=COLOURED)),
        "a change": render.changed_text(changed),
        "a dry run": render.changed_text(Changed(EVIL, "a", True, dry_run=True, plan=(EVIL,))),
        "a copy": render.copy_text(copied),
        "a copy, dry run": render.copy_text(copied, plan=""),
        "verify": render.verified_text(verified),
        "diff": render.difference_text(Difference(EVIL, EVIL, 1, 1, 1)),
        "diff of equals": render.difference_text(Difference(EVIL, EVIL, 1, 0, 1)),
        "clean": images._cleaned_text(Cleaned(EVIL, "a", (EVIL,), 1, warnings=(EVIL,))),
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
    assert list_text(entries, long=False).splitlines() == ["/d/", "/x (partial)", "/y"]


def test_a_long_listing_shows_size_contents_and_use() -> None:
    text = list_text([IMAGE, Entry("/d", "a", "directory")], long=True)
    head, first, second = text.splitlines()
    assert head.split() == ["TYPE", "SIZE", "ALLOCATED", "CONTENTS", "USE", "PATH"]
    for part in ("10 GiB", "1 MiB", "1 partition", "process,qemu-lock", "a:/mnt/x.img"):
        assert part in first
    assert second.split() == ["directory", "-", "-", "-", "-", "a:/d"]
    assert head.index("PATH") == first.index("a:/mnt") == second.index("a:/d")


def test_an_archive_of_unknown_size_is_said_to_be_so() -> None:
    archive = ImageInfo("/x.gz", "local", "file", None, 4096, compression="gzip")
    assert "?" in list_text([archive], long=True).splitlines()[1].split()
    text = info_text(archive)
    assert "not known without unpacking it" in text
    assert "file system" not in text


def test_what_was_found_in_an_archive_is_shown() -> None:
    inside = Filesystem("ext4", None, "root", 1 << 30)
    archive = ImageInfo("/x.zst", "local", "file", 1 << 30, 9, "zstd", filesystem=inside)
    assert "ext4" in info_text(archive)


def test_the_length_of_an_archive_is_shown_beside_the_size_of_what_is_in_it() -> None:
    archive = ImageInfo("/x", "local", "file", 1 << 20, 4096, "zstd", stored=24785)
    lines = info_text(archive).splitlines()
    assert "size:        1048576 bytes (1 MiB) uncompressed" in lines
    assert "archive:     24785 bytes (24.2 KiB)" in lines
    assert "archive:     24785 bytes" in info_text(archive, exact=True).splitlines()
    assert "archive:" not in info_text(IMAGE)


def test_info_shows_partitions_use_and_warnings() -> None:
    text = info_text(IMAGE)
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
    assert "in 0.0 s" in render.copy_text(result)
    assert render.copy_text(result, plan=", p") == "would copy 1 MiB from /x to /y, p"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (8 << 20, "/y  8 MiB in 2.0 s (4 MiB/s), 3 MiB moved, 8 MiB written"),
        (4 << 20, "/y  8 MiB in 2.0 s, 3 MiB moved, 4 MiB written"),
        (0, "/y  8 MiB in 2.0 s, 3 MiB moved, nothing to write (zeros, or there already)"),
    ],
)
def test_a_speed_is_told_of_a_copy_that_wrote_the_whole_image(written: int, says: str) -> None:
    assert render.copy_text(CopyResult("/x", "/y", 8 << 20, 3 << 20, written, "00", 2.0)) == says


@pytest.mark.parametrize(
    ("host", "path"),
    [("a", "a:/DIRECTORY"), ("local", "/DIRECTORY"), ("ssh://a:99", "ssh://a:99/DIRECTORY")],
)
def test_a_host_without_any_root_says_so_and_how_to_see_what_to_write(host: str, path: str) -> None:
    text = storage_text(StorageInfo(host, "1", (), (), (), ()))
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
    assert odd not in list_text([Entry(path, "a", "file")], long=False)


def test_what_nothing_lacks_has_no_key_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    whole = DirectoryInfo("/srv/a", "write", "ext4", 2, 1, False)
    lesser = DirectoryInfo("/srv/b", "write", "fuse", 2, 1, False, ("reserved space",))
    told = StorageInfo("a", "1", (whole, lesser), (), (), ())
    render.print_json(told)
    keys = [set(each) for each in json.loads(capsys.readouterr().out)["directories"]]
    assert keys[1] - keys[0] == {"lacks"}
    text = storage_text(told)
    assert "/srv/b lacks reserved space: zeros are written instead" in text
    assert "/srv/a lacks" not in text


def _long(*images: ImageInfo, exact: bool = False) -> list[str]:
    return list_text(images, long=True, exact=exact).splitlines()


SMALL = ImageInfo("/i/a.img", "local", "file", 512, 4096, owner="vdsm")
LARGE = ImageInfo("/i/b.img", "local", "file", 3 << 30, 1 << 30, owner="vdsm")


def test_sizes_line_up_on_the_right() -> None:
    head, small, large = _long(SMALL, LARGE)
    for title, one, other in (("SIZE", "512 B", "3 GiB"), ("ALLOCATED", "4 KiB", "1 GiB")):
        end = head.index(title) + len(title)
        assert small[:end].endswith(one)
        assert large[:end].endswith(other)


def test_bytes_are_exact_numbers_without_units() -> None:
    _, small, large = _long(SMALL, LARGE, exact=True)
    assert tuple(small.split()[1:3]) == ("512", "4096")
    assert tuple(large.split()[1:3]) == ("3221225472", "1073741824")
    text = info_text(IMAGE, exact=True)
    assert re.search("^size: +10737418240 bytes$", text, re.MULTILINE)
    assert "GiB" not in text
    pool = ThinPool("pool", 2 << 30, 1 << 30)
    group = VolumeGroup("/dev/vg0", "write", 8 << 30, 4 << 30, 4 << 20, (pool,))
    told = StorageInfo("a", "1", (), (group,), (), ())
    exactly = storage_text(told, exact=True).splitlines()
    assert exactly[2].split() == ["/dev/vg0", "write", "LVM", "4294967296", "8589934592", "yes"]
    assert "4 GiB" in storage_text(told)


def test_a_thin_pool_is_shown_below_its_volume_group() -> None:
    pool = ThinPool("pool", 2 << 30, 1 << 30)
    group = VolumeGroup("/dev/vg0", "write", 8 << 30, 4 << 30, 4 << 20, (pool,))
    lines = storage_text(StorageInfo("a", "1", (), (group,), (), ())).splitlines()
    assert lines[3].split()[:4] == ["/dev/vg0/pool", "write", "thin", "pool"]
    assert "1 GiB" in lines[3]


def test_what_nobody_could_look_into_is_not_shown_as_empty() -> None:
    bare = msgspec.structs.replace(IMAGE, partitions=(), in_use=(), warnings=())
    unseen = msgspec.structs.replace(bare, warnings=("bwrap is not installed on this host",))
    assert "file system: none recognised\n" in info_text(bare)
    assert "file system: none recognised; see the warning\n" in info_text(unseen)
    _, one, other = list_text([bare, unseen], long=True).splitlines()
    assert (one.split()[-3], other.split()[-3]) == ("-", "?")


def test_owners_are_listed_where_they_differ() -> None:
    assert "OWNER" not in _long(SMALL, LARGE)[0]
    head, small, large = _long(SMALL, msgspec.structs.replace(LARGE, owner="root"))
    at = head.index("OWNER")
    assert (small[at:].split()[0], large[at:].split()[0]) == ("vdsm", "root")
    assert "owner:       vdsm" in info_text(SMALL)


def test_times_are_listed_where_they_are_known() -> None:
    assert "MODIFIED" not in _long(SMALL)[0]
    at = datetime(2026, 11, 28, 2, 3, 4, tzinfo=UTC)
    head, line = _long(msgspec.structs.replace(SMALL, modified=at))
    assert "MODIFIED (UTC)" in head
    assert "2026-11-28 02:03 " in line


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_a_listing_fits_a_terminal_and_names_each_image(width: int) -> None:
    at = datetime(2026, 11, 28, 2, 3, 4, tzinfo=UTC)
    path = "/srv/machines/customers/of-the-north/disk-0123.img"
    image = msgspec.structs.replace(IMAGE, path=path, modified=at, in_use=())
    head, line = list_text([image], long=True, screen=Screen(width)).splitlines()
    needed = columns(head) if width < 70 else 0
    assert columns(line) <= max(width, needed, 64)
    assert "0123.img" in line
    assert ("02:03" in line) <= ("2026-11-28" in line)
    if width > 130:
        assert path in line
        assert "02:03" in line


def test_a_pool_of_running_machines_fits_80_columns() -> None:
    used = (InUse("process", "qemu (pid 8)"), InUse("qemu-lock", "held"))
    at = datetime(2026, 11, 28, 2, 3, 4, tzinfo=UTC)
    pool = [
        msgspec.structs.replace(
            IMAGE, host="local", path=path, owner=owner, modified=at, in_use=used, partitions=()
        )
        for path, owner in (
            ("/var/lib/libvirt/images/web.qcow2", "libvirt-qemu"),
            ("/var/lib/libvirt/images/a.img", "root"),
        )
    ]
    lines = list_text(pool, long=True, screen=Screen(80)).splitlines()
    assert max(map(columns, lines)) <= 80
    assert "web.qcow2" in lines[1]
    assert "process,qemu-lock" in lines[1]
    wide = list_text(pool, long=True, screen=Screen(130)).splitlines()
    assert "libvirt-qemu" in wide[1]
    assert "/var/lib/libvirt/images/web.qcow2" in wide[1]


def test_what_a_listing_is_sorted_by_is_shown_on_a_narrow_terminal() -> None:
    at = datetime(2026, 11, 28, 2, 3, 4, tzinfo=UTC)
    path = "/srv/machines/customers/of-the-north/disk.img"
    images = [msgspec.structs.replace(IMAGE, path=path, modified=at)]
    assert "2026-11-28" not in list_text(images, long=True, screen=Screen(80))
    by_time = list_text(images, long=True, sort="modified", screen=Screen(80))
    assert "2026-11-28" in by_time.splitlines()[1]


def test_a_path_is_whole_in_what_is_no_terminal() -> None:
    path = "/srv/" + "very-long/" * 30 + "x.img"
    assert path in _long(msgspec.structs.replace(SMALL, path=path))[1]


def test_what_is_partial_or_used_is_said_in_words_and_in_colour() -> None:
    partial = msgspec.structs.replace(IMAGE, state="partial")
    for image, word in ((IMAGE, "process,qemu-lock"), (partial, "partial")):
        plain = list_text([image], long=True)
        coloured = list_text([image], long=True, screen=COLOURED)
        assert f"m{word}\x1b[0m" in coloured
        assert word in plain
        assert _uncoloured(coloured) == plain
    assert "\x1b[33mwarning:" in info_text(IMAGE, screen=COLOURED)
    assert "\x1b[36mprocess: qemu" in info_text(IMAGE, screen=COLOURED)


def test_a_host_forges_no_colour() -> None:
    path = "/i/\x1b[31mred.img\x1b[0m"
    text = list_text([Entry(path, "a", "file")], long=False, screen=COLOURED)
    assert text == "a:/i/?[31mred.img?[0m"
