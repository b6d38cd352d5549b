"""What every archive format keeps. A format that is added to the table is tested here."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import get_args

import pytest

from tests.ours import writer_of
from virtstore import formats
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt
from virtstore.formats import header_budget
from virtstore.formats.base import Format
from virtstore.model import Compression

NOISE = random.Random(3).randbytes(CHUNK + 777)
TEXT = b"It was a bright cold day in April, and the clocks were striking thirteen. " * 20

IMAGES = {
    "nothing": b"",
    "one byte": b"x",
    "a sector less one": NOISE[:511],
    "a chunk": NOISE[:CHUNK],
    "a chunk and a byte": NOISE[: CHUNK + 1],
    "zeros": bytes(2 * CHUNK + 5),
    "data, zeros, data": NOISE + bytes(2 * CHUNK) + TEXT + bytes(100_000) + TEXT,
}
TINY = TEXT[:100] + bytes(3000) + NOISE[:20]


class Bytes:
    """An archive in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def small(form: Format) -> bytes:
    """An image that is small when it is packed; for ours, with frames of every kind."""
    if form.name != "zstd":
        return TINY
    return TEXT[:100] + bytes(CHUNK - 100) + bytes(CHUNK) + TINY


@pytest.fixture(params=formats.FORMATS.values(), ids=lambda form: form.name)
def form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


def pack(form: Format, image: bytes, step: int = CHUNK, level: int | None = None) -> bytes:
    written: list[bytes] = []
    writer = writer_of(form, written.append, level)
    try:
        for begin in range(0, len(image), step):
            writer.write(image[begin : begin + step])
        writer.finish()
    finally:
        writer.abandon()
    return b"".join(written)


def unpack(form: Format, archive: bytes) -> bytes:
    return b"".join(form.read(Bytes(archive)))


def test_every_compression_has_a_format_of_its_name_and_suffix() -> None:
    assert set(formats.FORMATS) == set(get_args(Compression))
    assert all(name == form.name for name, form in formats.FORMATS.items())
    suffixes = [form.suffix for form in formats.FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)


def test_nothing_is_missing_on_a_host_that_runs_these_tests(form: Format) -> None:
    assert form.missing() == ()


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
def test_an_image_comes_back(form: Format, image: bytes) -> None:
    archive = pack(form, image)
    assert unpack(form, archive) == image
    assert form.image_size(Bytes(archive)) in (len(image), None)


@pytest.mark.parametrize("step", [1000, 65537])
def test_an_image_comes_back_whatever_the_pieces_it_was_written_in(form: Format, step: int) -> None:
    image = IMAGES["data, zeros, data"][:400_001]
    assert unpack(form, pack(form, image, step)) == image


def test_every_level_that_can_be_named_works(form: Format) -> None:
    assert form.default_level in form.levels
    for level in form.levels:
        assert unpack(form, pack(form, TINY, level=level)) == TINY


def test_an_archive_is_recognised_as_what_it_is_and_nothing_else(form: Format) -> None:
    for image in IMAGES.values():
        assert formats.detect(Bytes(pack(form, image))) is form


def test_pieces_are_at_most_a_chunk_and_never_empty(form: Format) -> None:
    archive = Bytes(pack(form, bytes(9 * CHUNK) + NOISE))
    assert {0 < len(piece) <= CHUNK for piece in form.read(archive)} == {True}


def test_archives_one_after_another_are_one_image(form: Format) -> None:
    archive = pack(form, small(form)) + pack(form, TINY)
    assert unpack(form, archive) == small(form) + TINY
    assert form.image_size(Bytes(archive)) in (len(small(form) + TINY), None)


def test_an_archive_truncated_at_any_byte_is_corrupt(form: Format) -> None:
    archive = pack(form, small(form))
    for length in range(len(archive)):
        with pytest.raises(Corrupt):
            unpack(form, archive[:length])


def test_a_size_is_never_read_off_a_truncated_archive(form: Format) -> None:
    archive = pack(form, small(form))
    if form.image_size(Bytes(archive)) is None:
        return
    for length in range(len(archive)):
        with pytest.raises(Corrupt):
            form.image_size(Bytes(archive[:length]))


def test_an_archive_too_long_to_look_through_has_no_size_and_is_read_like_any_other(
    form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_budget, "MOST_HEADERS", 1)
    image = small(form) + TINY
    archive = pack(form, small(form)) + pack(form, TINY)
    assert form.image_size(Bytes(archive)) is None
    assert unpack(form, archive) == image
    with pytest.raises(Corrupt):
        unpack(form, archive[:-1])


def flips(archive: bytes, form: Format) -> Iterator[bytes]:
    """Every bit flipped; with lzop, a process each, one bit of every byte."""
    for place in range(len(archive)):
        for bit in range(8) if form.name != "lzop" else [place % 8]:
            yield archive[:place] + bytes([archive[place] ^ 1 << bit]) + archive[place + 1 :]


def test_a_flipped_bit_never_gives_another_image(form: Format) -> None:
    image = small(form)
    archive = pack(form, image)
    refused = 0
    for damaged in flips(archive, form):
        try:
            assert unpack(form, damaged) == image
        except Corrupt:
            refused += 1
    # What may change unseen is a few fields of headers that say nothing of the image.
    assert refused > 0.8 * sum(1 for _ in flips(archive, form))


def test_a_flipped_bit_in_what_is_stored_of_the_image_is_corrupt(form: Format) -> None:
    noise = NOISE[:1000]
    archive = pack(form, noise)
    begin = archive.index(noise[400:600])  # noise is stored as it is
    for place in (begin, begin + 100, begin + 199):
        damaged = bytearray(archive)
        damaged[place] ^= 1
        with pytest.raises(Corrupt):
            unpack(form, bytes(damaged))


@pytest.mark.parametrize("junk", [b"junk", b"\0", bytes(511), b"\x50\x2a\x4d\x18"])
def test_junk_behind_the_end_is_corrupt(form: Format, junk: bytes) -> None:
    with pytest.raises(Corrupt):
        unpack(form, pack(form, TINY) + junk)


def test_what_is_no_archive_is_corrupt(form: Format) -> None:
    other = next(f for f in formats.FORMATS.values() if f.name != form.name)
    for contents in (b"", b"x", bytes(5000), NOISE[:5000], TEXT, pack(other, TINY)):
        with pytest.raises(Corrupt):
            unpack(form, contents)


def _unfinished(form: Format, image: bytes) -> bytes:
    written: list[bytes] = []
    writer = writer_of(form, written.append)
    for begin in range(0, len(image), CHUNK):
        writer.write(image[begin : begin + CHUNK])
    writer.abandon()
    writer.abandon()
    return b"".join(written)


@pytest.mark.parametrize("image", [TINY, NOISE[:CHUNK] + NOISE[:CHUNK] + TEXT])
def test_an_archive_that_was_never_finished_is_corrupt(form: Format, image: bytes) -> None:
    archive = _unfinished(form, image)
    with pytest.raises(Corrupt):
        unpack(form, archive)


def test_a_sink_that_fails_fails_the_writer(form: Format) -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _write_to(form, full)


def _write_to(form: Format, sink: Callable[[bytes], None]) -> None:
    writer = writer_of(form, sink)
    try:
        writer.write(NOISE[:CHUNK])
        writer.finish()
    finally:
        writer.abandon()


def test_a_reader_may_stop_early(form: Format) -> None:
    pieces = form.read(Bytes(pack(form, NOISE * 3)))
    first = next(pieces)
    assert NOISE.startswith(first)
    assert isinstance(pieces, Generator)
    pieces.close()


def test_an_error_of_the_disk_is_no_corruption(form: Format) -> None:
    class Failing(Bytes):
        def read_at(self, offset: int, length: int) -> bytes:
            if offset + length > 100_000:
                raise OSError(5, "Input/output error")
            return super().read_at(offset, length)

    with pytest.raises(OSError, match="Input/output error"):
        list(form.read(Failing(pack(form, NOISE))))
