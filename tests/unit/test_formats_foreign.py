"""What is neither an image nor an archive that virtstore reads has a name."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile

import pytest

from virtstore import formats
from virtstore.errors import Corrupt
from virtstore.formats import foreign
from virtstore.names import KINDS

from .test_formats_containers import Bytes


def _zip() -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w") as archive:
        archive.writestr("x.img", bytes(5000))
    return held.getvalue()


def _tar(form: int) -> bytes:
    with tarfile.open(fileobj=(held := io.BytesIO()), mode="w", format=form) as archive:
        (member := tarfile.TarInfo("x.img")).size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
    return held.getvalue()


MADE = {
    "bzip2": bz2.compress(bytes(5000)),
    "bzip2 of nothing": bz2.compress(b""),
    "lzma": lzma.compress(bytes(5000), format=lzma.FORMAT_ALONE),
    "zip": _zip(),
    "tar of pax": _tar(tarfile.PAX_FORMAT),
    "tar of gnu": _tar(tarfile.GNU_FORMAT),
    "7z": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24),
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(24),
    "lzip": b"LZIP\1\x0c" + bytes(24),
    "compress": b"\x1f\x9d\x90" + bytes(24),
    "cpio": b"070701" + b"0" * 104,
    "ar": b"!<arch>\ndebian-binary",
    "wim": b"MSWIM\0\0\0" + bytes(200),
    "android-sparse": b"\x3a\xff\x26\xed\1\0\0\0" + bytes(24),
    "old-zstd": b"\x27\xb5\x2f\xfd" + bytes(24),
    "no-zstd-frame": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" * 2,
}


@pytest.mark.parametrize("what", MADE)
def test_an_archive_that_is_not_read_is_named(what: str) -> None:
    source = Bytes(MADE[what])
    assert formats.detect(source) is None
    found = foreign.detect(source)
    assert found
    assert found.name == what.partition(" ")[0]
    assert found.container is None
    assert "FILE" in found.kind.convert


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(4096),
        b"BZh9" + bytes(60),
        b"PK\0\0" + bytes(60),
        b"\x5d\0\0\x01\x01" + bytes(600),
        b"\x1f\x9d\0" + bytes(60),
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + bytes(60),
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(60),
        b"\x50\x2a\x4d\x18\0\0\0\0" * 100_000,
    ],
)
def test_a_raw_image_is_nothing_foreign(data: bytes) -> None:
    assert foreign.detect(Bytes(data)) is None


@pytest.mark.parametrize("name", ["x.qcow2", "x.VMDK", "x.img.bz2", "x.zip", "x.img.zst", "X.GZ"])
def test_a_file_that_is_not_what_it_is_called_is_damaged(name: str) -> None:
    with pytest.raises(Corrupt, match=r"is called .* and is none"):
        formats.refuse_broken_promise(name)


@pytest.mark.parametrize("name", ["x.img", "web", "disk.hdd", "x.iso", "x.raw", "backup23image"])
def test_a_name_that_promises_nothing_breaks_nothing(name: str) -> None:
    formats.refuse_broken_promise(name)


def test_each_kind_says_what_it_is_and_how_a_raw_image_is_made_of_it() -> None:
    for kind in KINDS.values():
        assert kind.what.startswith(("a ", "an "))
        assert "FILE" in kind.convert
