"""Archives as other people have them: with something behind their end, made with a dictionary, of
formats that are not read, or called as it happens."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtstore import Corrupt, Host, Unsupported, UsageError, connect

from .test_agent_commands import MIB, told, tree

IMAGE = bytes(MIB) + b"an image" * 5000 + bytes(MIB)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root := tmp_path / "images").mkdir(mode=0o700)
    (root / "backups").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    (root / "web.img").write_bytes(IMAGE)
    return root


@pytest.fixture
def host(root: Path) -> Iterator[Host]:
    with connect("local:") as host:
        yield host


def _copy(host: Host, source: Path, target: Path | str, **options: Any) -> Any:
    return host.image(f"{source}").copy(host.image(f"{target}"), **options)


def _packed(program: str, *options: str) -> bytes:
    argv = [program, "-c", *options]
    return subprocess.run(argv, input=IMAGE, capture_output=True, check=True, timeout=60).stdout


MAKERS: dict[str, Callable[[], bytes]] = {
    "gz": lambda: gzip.compress(IMAGE),
    "xz": lambda: lzma.compress(IMAGE),
    "zst": lambda: _packed("zstd", "-q"),
    "lz4": lambda: _packed("lz4", "-q"),
    "lzo": lambda: _packed("lzop", "-q"),
}


@pytest.mark.parametrize("suffix", MAKERS)
def test_zeros_behind_the_only_member_are_padding_where_it_is_called_an_archive(
    host: Host, root: Path, suffix: str
) -> None:
    (path := root / f"x.img.{suffix}").write_bytes(MAKERS[suffix]() + bytes(512))
    _copy(host, path, root / "x.img")
    assert (root / "x.img").read_bytes() == IMAGE
    path.rename(other := root / "data.img")  # as a guest's tape: a raw disk with that on it
    if suffix != "xz":  # of which padding is a part
        with pytest.raises(Corrupt, match="512 bytes behind that are zeros"):
            _copy(host, other, root / "y.img")


@pytest.mark.parametrize("suffix", MAKERS)
def test_something_behind_the_end_is_told_with_what_to_do(
    host: Host, root: Path, suffix: str
) -> None:
    packed = MAKERS[suffix]()
    (path := root / f"x.img.{suffix}").write_bytes(packed + b"FWx0 metadata of a router")
    before = tree(root)
    with pytest.raises(Corrupt) as refused:
        _copy(host, path, root / "x.img")
    message = refused.value.message
    assert f"up to byte {len(packed)} it is a whole" in message
    assert tree(root) == before
    (root / f"y.{suffix}").write_bytes(path.read_bytes()[: len(packed)])  # as `head -c` does
    assert f"`head -c {len(packed)} ARCHIVE > NEW`" in message
    _copy(host, root / f"y.{suffix}", root / "x.img")
    assert (root / "x.img").read_bytes() == IMAGE


def test_zeros_behind_several_members_may_be_what_a_crash_left_of_more(
    host: Host, root: Path
) -> None:
    halves = [gzip.compress(IMAGE[:MIB]), gzip.compress(IMAGE[MIB:])]
    (path := root / "x.gz").write_bytes(b"".join(halves))
    _copy(host, path, root / "x.img")
    assert (root / "x.img").read_bytes() == IMAGE
    path.write_bytes(b"".join(halves) + bytes(4096))
    with pytest.raises(Corrupt, match="if there was more of the archive"):
        _copy(host, path, root / "y.img")


@pytest.mark.parametrize("program", ["zstd", "lz4"])
def test_an_archive_that_needs_a_dictionary_is_not_called_damaged(
    host: Host, root: Path, program: str
) -> None:
    dictionary = root.parent / "dictionary"
    if program == "zstd":
        samples = [root.parent / f"sample{n}" for n in range(300)]
        for number, each in enumerate(samples):
            each.write_bytes(b"".join(b"line %d of %d\n" % (n, number) for n in range(60)))
        argv = ["zstd", "-q", "--train", *map(str, samples), "-o", f"{dictionary}"]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
        packed = _packed("zstd", "-q", "-D", f"{dictionary}")
    else:
        packed = _with_lz4_dictionary()
    (path := root / f"x.{program[:3]}").write_bytes(packed)
    path = path.rename(root / ("x.zst" if program == "zstd" else "x.lz4"))
    with pytest.raises(Unsupported, match="dictionary"):
        _copy(host, path, root / "x.img")
    assert any("dictionary" in warning for warning in host.image(f"{path}").info().warnings)


def _with_lz4_dictionary() -> bytes:
    """An empty frame whose sound header names dictionary 7 (lz4_Frame_format.md)."""
    import lz4.frame

    for check in range(256):
        frame = b"\x04\x22\x4d\x18\x61\x40\x07\0\0\0" + bytes([check])
        try:
            lz4.frame.get_frame_info(frame + bytes(8))
        except RuntimeError:
            continue
        return frame + bytes(4)
    raise AssertionError("no check byte fits")


@pytest.mark.parametrize("name", ["x.img.bz2", "x.img", "x.lzma"])
def test_an_archive_that_is_not_read_is_named_and_nothing_is_made_of_it(
    host: Host, root: Path, name: str
) -> None:
    lzma_alone = lzma.compress(IMAGE, format=lzma.FORMAT_ALONE)
    packed = lzma_alone if name.endswith("lzma") else bz2.compress(IMAGE)
    (path := root / name).write_bytes(packed)
    what = "lzma" if name.endswith("lzma") else "bzip2"
    info = host.image(f"{path}").info()
    assert what in info.warnings[0]
    assert (info.size, info.container, info.filesystem) == (None, None, None)
    before = tree(root)
    image = host.image(f"{path}")
    changes: list[Callable[[], object]] = [
        lambda: image.grow("+1M"),
        lambda: image.shrink("-1"),
        lambda: image.resize("+1M"),
        image.uncompress,
        lambda: image.copy(host.image(f"{root}/new.img")),
        lambda: image.copy_contents(host.image(f"{root}/web.img")),
        lambda: host.image(f"{root}/web.img").copy_contents(image),
    ]
    for change in changes:
        with pytest.raises(Unsupported, match=what):
            change()
    assert tree(root) == before
    verified = image.verify()
    assert (verified.checked, verified.warnings) == ("nothing", info.warnings)


@pytest.mark.parametrize(
    ("target", "options", "made", "form"),
    [
        ("backups", {}, "backups/web.img.zst", "zstd"),
        ("backups/", {}, "backups/web.img.zst", "zstd"),
        ("backups", {"format": "gzip"}, "backups/web.img.gz", "gzip"),
        ("y.img.gz", {}, "y.img.gz", "gzip"),
        ("Y.IMG.XZ", {}, "Y.IMG.XZ", "xz"),
        ("y.lz4", {"format": "lz4"}, "y.lz4", "lz4"),
        ("backup23image", {}, "backup23image", "zstd"),
        ("backup23image", {"format": "lzop"}, "backup23image", "lzop"),
        ("web.img.2026-11-28", {}, "web.img.2026-11-28", "zstd"),
    ],
)
def test_an_archives_name_says_its_format_and_gets_its_suffix_in_a_directory(
    host: Host, root: Path, target: str, options: dict[str, Any], made: str, form: str
) -> None:
    archive = _copy(host, root / "web.img", f"{root}/{target}", archive=True, **options)
    assert archive.path == f"{root}/{made}"
    assert archive.info().compression == form


def test_an_archive_copied_into_a_directory_has_one_suffix(host: Host, root: Path) -> None:
    first = _copy(host, root / "web.img", root / "web.img.gz", archive=True)
    again = _copy(host, root / "web.img.gz", root / "backups", archive=True)
    assert again.path == f"{root}/backups/web.img.zst"
    assert _copy(host, Path(first.path), root / "backups").path == f"{root}/backups/web.img"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.img.zst", {"format": "gzip"}),
        ("x.img.GZ", {"format": "zstd"}),
        ("x.img.xz", {"format": "lz4"}),
    ],
)
def test_a_format_that_the_name_contradicts_is_refused(
    host: Host, root: Path, name: str, options: dict[str, Any]
) -> None:
    before = tree(root)
    with pytest.raises(UsageError, match="leave --format out"):
        _copy(host, root / "web.img", root / name, archive=True, **options)
    assert tree(root) == before


@pytest.mark.parametrize("name", ["x.img.bz2", "x.tar.gz", "x.tgz", "x.zip", "x.qcow2"])
def test_an_archive_is_not_called_what_cannot_be_made(host: Host, root: Path, name: str) -> None:
    before = tree(root)
    with pytest.raises(Unsupported, match="its name says"):
        _copy(host, root / "web.img", root / name, archive=True)
    assert tree(root) == before


def test_uncompressing_knows_a_suffix_in_upper_case(root: Path) -> None:
    (root / "X.IMG.GZ").write_bytes(gzip.compress(IMAGE))
    assert told("uncompress", root / "X.IMG.GZ")["path"] == f"{root}/X.IMG"
    assert (root / "X.IMG").read_bytes() == IMAGE
