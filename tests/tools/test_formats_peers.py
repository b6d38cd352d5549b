"""Archives cross between virtstore and the tools of each format, in both directions.

Host tools needed: zstd (with pzstd), lz4, lzop, gzip, pigz, xz, file.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import indexed_zstd
import pytest
from tests.ours import writer_of

from virtstore import formats
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.formats.base import Format
from virtstore.formats.seekable import SeekableWriter
from virtstore.formats.summary import ALIGNMENTS, Label

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # pyzstd's of its own names
    import pyzstd

RANDOM = random.Random(4)
TEXT = b"".join(b"line %d of a log that a guest wrote\n" % number for number in range(30_000))
#: No multiple of anything, with data, text and zeros.
IMAGE = RANDOM.randbytes(200_003) + TEXT + bytes(2 * CHUNK + 70_001) + RANDOM.randbytes(1_009)

#: A command that compresses a named file to its standard output, and whether the archive
#: then states the size of its image.
MADE_BY = [
    ("zstd", "zstd -q -c", True),
    ("zstd", "zstd -q -1 --no-check -c", True),
    ("zstd", "zstd -q --no-content-size -c", False),
    ("zstd", "zstd -q -T0 --long -c", True),
    ("zstd", "zstd -q -T0 --long=27 -c", True),
    ("zstd", "zstd -q --ultra -22 -c", True),
    ("zstd", "zstd -q -B64K --rsyncable -c", True),
    ("zstd", "pzstd -q -p 2 -c", False),
    ("lz4", "lz4 -q -c", False),
    ("lz4", "lz4 -q --content-size -c", True),
    ("lz4", "lz4 -q --content-size -B4 -BD -BX -c", True),
    ("lz4", "lz4 -q -9 --no-frame-crc -BX -c", False),
    ("lzop", "lzop -c", True),
    ("lzop", "lzop -9 --crc32 -c", True),
    ("lzop", "lzop -C -c", True),
    ("lzop", "lzop -F -c", True),
    ("gzip", "gzip -c", False),
    ("gzip", "gzip -1 -n -c", False),
    ("gzip", "pigz -c", False),
    ("gzip", "pigz -i -b 128 -c", False),
    ("xz", "xz -1 -c", True),
    ("xz", "xz -1 -T2 --block-size=1MiB -c", True),
    ("xz", "xz -1 --check=sha256 -c", True),
    ("xz", "xz -9 -c", True),
]
READ_BY = [
    ("zstd", "zstd -q -d -c"),
    ("zstd", "pzstd -q -d -c"),
    ("lz4", "lz4 -q -d -c"),
    ("lzop", "lzop -d -c"),
    ("gzip", "gzip -d -c"),
    ("gzip", "pigz -d -c"),
    ("xz", "xz -d -c"),
]


class ArchiveFile:
    """An archive in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def read_at(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


def _output(command: str, path: Path) -> bytes:
    done = subprocess.run([*command.split(), str(path)], capture_output=True, check=True)
    return done.stdout


def _file(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


def _ours(form: Format, path: Path, image: bytes = IMAGE, align: int = 4096) -> Path:
    written: list[bytes] = []
    writer = writer_of(form, written.append, label=Label(align))
    for begin in range(0, len(image), CHUNK):
        writer.write(image[begin : begin + CHUNK])
    writer.finish()
    return _file(path, b"".join(written))


@pytest.mark.parametrize(("name", "command", "states_size"), MADE_BY, ids=[m[1] for m in MADE_BY])
def test_what_a_tool_made_is_read(
    tmp_path: Path, name: str, command: str, states_size: bool
) -> None:
    form = formats.by_name(name)
    packed = _output(command, _file(tmp_path / "image", IMAGE))
    archive = ArchiveFile(_file(tmp_path / "archive", packed))
    assert formats.detect(archive) is form
    assert form.image_size(archive) == (len(IMAGE) if states_size else None)
    assert b"".join(form.read(archive)) == IMAGE


@pytest.mark.parametrize(("name", "command", "states_size"), MADE_BY, ids=[m[1] for m in MADE_BY])
def test_what_a_tool_made_twice_over_is_read(
    tmp_path: Path, name: str, command: str, states_size: bool
) -> None:
    form = formats.by_name(name)
    packed = _output(command, _file(tmp_path / "image", IMAGE))
    archive = ArchiveFile(_file(tmp_path / "archive", packed + packed))
    assert form.image_size(archive) == (2 * len(IMAGE) if states_size else None)
    assert b"".join(form.read(archive)) == IMAGE + IMAGE


@pytest.mark.parametrize(("name", "command", "states_size"), MADE_BY, ids=[m[1] for m in MADE_BY])
def test_what_a_tool_made_is_corrupt_once_it_is_cut_or_longer(
    tmp_path: Path, name: str, command: str, states_size: bool
) -> None:
    form = formats.by_name(name)
    packed = _output(command, _file(tmp_path / "image", TEXT[:50_000] + RANDOM.randbytes(100)))
    cuts = {*range(24), *range(24, len(packed), len(packed) // 16), *range(-24, 0)}
    for cut in cuts:
        with pytest.raises(Corrupt):
            list(form.read(ArchiveFile(_file(tmp_path / "archive", packed[:cut]))))
    with pytest.raises(Corrupt):
        list(form.read(ArchiveFile(_file(tmp_path / "archive", packed + b"junk"))))


@pytest.mark.parametrize(("name", "command"), READ_BY, ids=[r[1] for r in READ_BY])
def test_what_we_made_is_read_by_a_tool(tmp_path: Path, name: str, command: str) -> None:
    form = formats.by_name(name)
    for align in ALIGNMENTS if name == "zstd" else (1,):
        path = _ours(form, tmp_path / f"image{form.suffix}", align=align)
        assert _output(command, path) == IMAGE


@pytest.mark.parametrize("tool", ["zstd", "lz4", "lzop", "gzip", "xz"])
def test_what_we_made_passes_its_tools_own_test(tmp_path: Path, tool: str) -> None:
    form = formats.by_name(tool)
    for image in (IMAGE, b"x", bytes(3 * CHUNK), b""):
        path = _ours(form, tmp_path / f"image{form.suffix}", image)
        subprocess.run([tool, "-t", str(path)], capture_output=True, check=True)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_file_recognises_what_we_made(tmp_path: Path, name: str) -> None:
    told = _output("file -b", _ours(formats.by_name(name), tmp_path / "archive"))
    words = {"zstd": b"Zstandard", "lz4": b"LZ4", "lzop": b"lzop", "gzip": b"gzip", "xz": b"XZ"}
    assert words[name] in told


def test_zstd_reads_a_gibibyte_of_zeros_without_being_allowed_a_large_window(
    tmp_path: Path,
) -> None:
    written: list[bytes] = []
    archive = SeekableWriter(written.append)
    archive.add_zeros(1 << 30)
    archive.finish("0" * 64)
    path = _file(tmp_path / "zeros.zst", b"".join(written))
    subprocess.run(["zstd", "-q", "-t", "--memory=8MiB", str(path)], check=True)
    assert len(path.read_bytes()) < 40_000


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_pyzstd_reads_ours_at_random(tmp_path: Path, align: int) -> None:
    path = _ours(formats.by_name("zstd"), tmp_path / "image.zst", align=align)
    with pyzstd.SeekableZstdFile(path, "r") as file:
        for begin in [len(IMAGE) - 10, 0, *(RANDOM.randrange(len(IMAGE)) for _ in range(20))]:
            file.seek(begin)
            assert file.read(1000) == IMAGE[begin : begin + 1000]
        assert file.seek(0, 2) == len(IMAGE)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_indexed_zstd_reads_ours_at_random(tmp_path: Path, align: int) -> None:
    path = _ours(formats.by_name("zstd"), tmp_path / "image.zst", align=align)
    file = indexed_zstd.IndexedZstdFile(str(path))
    try:
        for begin in [len(IMAGE) - 10, 0, *(RANDOM.randrange(len(IMAGE)) for _ in range(20))]:
            file.seek(begin)
            assert file.read(1000) == IMAGE[begin : begin + 1000]
        assert file.size() == len(IMAGE)
    finally:
        file.close()


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_the_page_about_the_format_is_enough_to_read_it(tmp_path: Path, align: int) -> None:
    path = _ours(formats.by_name("zstd"), tmp_path / "image.zst", align=align)
    reader = [sys.executable, str(Path(__file__).with_name("reader_of_archives.py")), str(path)]
    assert subprocess.run(reader, capture_output=True, check=True).stdout == IMAGE
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    done = subprocess.run(reader, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_seekable_archive_of_pyzstd_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.zst"
    with pyzstd.SeekableZstdFile(path, "w", max_frame_content_size=300_000) as file:
        file.write(IMAGE)
    archive = ArchiveFile(path)
    assert formats.detect(archive) is formats.FORMATS["zstd"]
    assert b"".join(formats.FORMATS["zstd"].read(archive)) == IMAGE


def test_a_chunk_that_zstd_itself_compressed_is_not_taken_for_a_cut_off_archive(
    tmp_path: Path,
) -> None:
    packed = _output("zstd -q -1 -c", _file(tmp_path / "image", IMAGE[:CHUNK]))
    archive = ArchiveFile(_file(tmp_path / "archive", packed))
    assert b"".join(formats.FORMATS["zstd"].read(archive)) == IMAGE[:CHUNK]


def test_lz4s_own_skippable_and_legacy_frames_are_told_apart(tmp_path: Path) -> None:
    legacy = _output("lz4 -q -l -c", _file(tmp_path / "image", TEXT))
    archive = ArchiveFile(_file(tmp_path / "archive", legacy))
    assert formats.detect(archive) is formats.FORMATS["lz4"]
    framed = b"\x53\x2a\x4d\x18\x03\0\0\0abc" + _output("lz4 -q -c", tmp_path / "image")
    archive = ArchiveFile(_file(tmp_path / "archive", framed))
    assert formats.detect(archive) is formats.FORMATS["lz4"]
    assert b"".join(formats.FORMATS["lz4"].read(archive)) == TEXT


def test_padding_of_zeros_between_and_behind_xz_streams_is_read(tmp_path: Path) -> None:
    packed = _output("xz -1 -c", _file(tmp_path / "image", TEXT))
    archive = ArchiveFile(_file(tmp_path / "archive", packed + bytes(8) + packed + bytes(8192)))
    assert formats.FORMATS["xz"].image_size(archive) == 2 * len(TEXT)
    assert b"".join(formats.FORMATS["xz"].read(archive)) == TEXT + TEXT


@pytest.mark.parametrize(
    "command", ["zstd -q -c", "lz4 -q -c", "lzop -c", "gzip -1 -c", "xz -0 -c"]
)
def test_what_a_bomb_costs_in_memory_does_not_depend_on_its_size(
    tmp_path: Path, command: str
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    archive = ArchiveFile(_file(tmp_path / "archive", _output(command, image)))
    form = formats.detect(archive)
    assert form is not None
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in form.read(archive))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 8 << 20
