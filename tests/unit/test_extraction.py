"""Where files of an image go, whatever the image, or its host, says that they are called."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from virtstore.client.extraction import Extraction, Whole
from virtstore.errors import Corrupt, Error, Exists, NoSpace, Unsafe, UsageError
from virtstore.protocol import FileBroken, FilePart, FilesEnd, FileTold

END = FilesEnd("ext4")
Told = FileTold | FileBroken | tuple[FilePart, bytes]


def file(path: bytes, contents: bytes, size: int | None = None) -> list[Told]:
    """What is told of a file."""
    told = FileTold(path, "file", len(contents) if size is None else size, 1_000_000_000)
    return [told, (FilePart(0), contents)]


def extracted(directory: Path, *told: Told, overwrite: bool = False, dry_run: bool = False) -> None:
    with Extraction(str(directory), overwrite=overwrite, dry_run=dry_run) as target:
        for each in (*told, END):
            target.take(*(each if isinstance(each, tuple) else (each, b"")))
    target.outcome("a", "/x.img")


def below(directory: Path) -> set[str]:
    return {str(each.relative_to(directory)) for each in directory.rglob("*")}


def test_files_have_their_contents_and_times(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    extracted(
        tmp_path,
        *file(b"hello", b"hello"),
        FileTold(b"d", "directory"),
        *file(b"d/\xff", b"odd"),
        FileTold(b"d/link", "symlink", target=b"../hello"),
    )
    assert (tmp_path / "hello").read_bytes() == b"hello"
    assert (tmp_path / "hello").stat().st_mtime == 1_000_000_000
    assert (tmp_path / "d" / os.fsdecode(b"\xff")).read_bytes() == b"odd"
    assert os.readlink(tmp_path / "d/link") == "../hello"


def test_what_was_not_told_of_a_file_is_a_hole(tmp_path: Path) -> None:
    extracted(
        tmp_path,
        FileTold(b"f", "file", 3 << 20),
        (FilePart(1 << 20), b"x"),
        (FilePart(2 << 20), b"y"),
    )
    held = (tmp_path / "f").read_bytes()
    assert len(held) == 3 << 20
    assert held.rstrip(b"\0") == b"x".rjust((1 << 20) + 1, b"\0") + b"y".rjust(1 << 20, b"\0")
    assert (tmp_path / "f").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    "path", [b"../f", b"/f", b"a/../../f", b"..", b".", b"a//f", b"a/./f", b"f\0", b"a/"]
)
def test_no_path_leads_elsewhere(path: bytes, tmp_path: Path) -> None:
    (tmp_path / "to/a").mkdir(parents=True)
    with pytest.raises(Corrupt, match="which none can be"):
        extracted(tmp_path / "to", *file(path, b"x"))
    assert below(tmp_path) == {"to", "to/a"}


def test_nothing_is_written_through_a_link_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to/d").symlink_to(tmp_path / "elsewhere")
    for told in ([FileTold(b"d", "directory")], file(b"d/f", b"x")):
        with pytest.raises(Unsafe, match="behind a link"):
            extracted(tmp_path / "to", *told, overwrite=True)
    assert below(tmp_path / "elsewhere") == set()


def test_nothing_is_written_through_a_link_that_the_image_has(tmp_path: Path) -> None:
    """One directory may have two entries of one name."""
    (tmp_path / "elsewhere").mkdir()
    link = FileTold(b"d", "symlink", target=os.fsencode(tmp_path / "elsewhere"))
    with pytest.raises(Unsafe, match="behind a link"):
        extracted(tmp_path / "to", link, *file(b"d/f", b"x"), overwrite=True)
    assert below(tmp_path / "elsewhere") == set()


def test_what_is_there_is_left_alone_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "linked").write_text("old")
    (tmp_path / "l").symlink_to("linked")
    link = FileTold(b"f", "symlink", target=b"x")
    for told in (file(b"f", b"new"), file(b"l", b"new"), [link]):
        for dry_run in (True, False):
            with pytest.raises(Exists, match="--overwrite replaces it"):
                extracted(tmp_path, *told, dry_run=dry_run)
    extracted(tmp_path, *file(b"f", b"new"), *file(b"l", b"new"), overwrite=True)
    assert (tmp_path / "f").read_text() == "new"
    assert not (tmp_path / "l").is_symlink()
    assert (tmp_path / "linked").read_text() == "old"
    assert below(tmp_path) == {"f", "l", "linked"}


def test_what_is_no_directory_is_not_extracted_to(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    for to in (tmp_path / "f", tmp_path / "f/below"):
        with pytest.raises(Exists, match="is no directory"):
            extracted(to, *file(b"g", b"x"))
    assert (tmp_path / "f").read_text() == "old"


def test_a_file_that_is_made_in_between_is_not_replaced(tmp_path: Path) -> None:
    with Extraction(str(tmp_path), overwrite=False) as target:
        target.take(FileTold(b"f", "file", 1), b"")
        (tmp_path / "f").write_text("theirs")
        with pytest.raises(Exists):
            target.take(END, b"")
    assert (tmp_path / "f").read_text() == "theirs"
    assert below(tmp_path) == {"f"}


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    with Extraction(str(tmp_path), overwrite=False) as target:
        target.take(FileTold(b"f", "file", 9), b"")
        target.take(FilePart(0), b"half")
        assert "f" not in below(tmp_path)
    assert below(tmp_path) == set()


def test_a_file_that_cannot_be_read_is_left_out_and_told_and_the_rest_is_there(
    tmp_path: Path,
) -> None:
    broken = [*file(b"bad", b"half", 99), FileBroken("its extents are damaged")]
    with pytest.raises(Corrupt, match=r"bad: its extents are damaged; .* left out") as raised:
        extracted(tmp_path, *broken, *file(b"good", b"x"))
    assert (raised.value.host, raised.value.path) == ("a", "/x.img")
    assert below(tmp_path) == {"good"}


def test_more_than_a_file_has_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="more came of f"):
        extracted(tmp_path, *file(b"f", b"12345", 3))
    assert below(tmp_path) == set()


def test_a_full_disk_is_told_and_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace) as raised:
        extracted(tmp_path, *file(b"f", b"x"))
    assert raised.value.path == str(tmp_path / "f")
    assert below(tmp_path) == set()


def test_devices_are_not_made_and_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    with Extraction(str(tmp_path / "to"), overwrite=False, dry_run=True) as target:
        for told in (
            FileTold(b"f", "file", 7),
            FileTold(b"d", "directory"),
            FileTold(b"p", "other"),
        ):
            target.take(told, b"")
        target.take(END, b"")
    done = target.outcome("a", "/x.img")
    assert (done.files, done.directories, done.links, done.size) == (1, 1, 0, 7)
    assert done.warnings[-1].endswith("link: p")
    assert not (tmp_path / "to").exists()


def whole(*told: Told) -> bytes:
    file = Whole("/f")
    messages = (each if isinstance(each, tuple) else (each, b"") for each in (*told, END))
    return b"".join(piece for message in messages for piece in file.take(*message))


def test_a_file_in_a_pipe_has_its_holes_as_zeros() -> None:
    assert whole(FileTold(b"f", "file", 7), (FilePart(2), b"x"), (FilePart(4), b"y")) == (
        b"\0\0x\0y\0\0"
    )


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ([FileTold(b"f", "directory")], UsageError),
        ([FileTold(b"f", "file", 1), FileTold(b"g", "file", 1)], UsageError),
        ([FileTold(b"f", "file", 1), (FilePart(0), b"ab")], Corrupt),
        ([FileTold(b"f", "file", 9), (FilePart(4), b"ab"), (FilePart(0), b"ab")], Corrupt),
        ([FileTold(b"f", "file", 9), FileBroken("cut")], Corrupt),
    ],
)
def test_what_is_no_one_file_is_none_in_a_pipe(told: list[Told], error: type[Error]) -> None:
    with pytest.raises(error):
        whole(*told)
