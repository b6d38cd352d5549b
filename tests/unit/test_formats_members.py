"""Archives of very many members are read in a time that grows with their size, and no faster."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable

import lz4.frame
import pytest

from virtstore import formats
from virtstore.formats.cursor import Cursor
from virtstore.model import Compression


class Bytes:
    def __init__(self, contents: bytes) -> None:
        self._contents = contents
        self.size = len(contents)
        self.read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._contents[offset : offset + length]
        self.read += len(data)
        return data


@pytest.mark.parametrize(
    ("form", "compress"),
    [
        ("gzip", lambda data: gzip.compress(data, 1, mtime=0)),
        ("lz4", lz4.frame.compress),
        ("xz", lzma.compress),
    ],
)
@pytest.mark.parametrize("contents", [b"", b"x", b"words " * 300])
def test_a_decoder_is_given_little_more_than_its_member(
    monkeypatch: pytest.MonkeyPatch,
    form: Compression,
    compress: Callable[[bytes], bytes],
    contents: bytes,
) -> None:
    given = [0]
    take_some = Cursor.take_some

    def counting(cursor: Cursor, most: int | None = None) -> bytes:
        data = take_some(cursor, most)
        given[0] += len(data)
        return data

    monkeypatch.setattr(Cursor, "take_some", counting)
    members = 3000
    archive = Bytes(compress(contents) * members)
    read = b"".join(formats.by_name(form).read(archive))
    assert read == contents * members
    assert given[0] <= archive.size + members * 1024
    assert archive.read <= 2 * archive.size + (1 << 20)
