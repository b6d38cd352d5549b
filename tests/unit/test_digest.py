"""The image's digest is what docs/archive-format.md says, however it is computed."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from virtstore.digest import CHUNK, DIGEST_SIZE, ZEROS, ImageDigest, chunk_digest, zero_digest


def _digest(image: bytes) -> str:
    digest = ImageDigest()
    for begin in range(0, len(image), CHUNK):
        digest.add(chunk_digest(image[begin : begin + CHUNK]))
    return digest.hexdigest()


def test_an_images_digest_is_the_digest_of_its_chunks_digests() -> None:
    image = b"a" * CHUNK + b"b" * CHUNK + b"c"
    chunks = [b"a" * CHUNK, b"b" * CHUNK, b"c"]
    assert _digest(image) == blake3(b"".join(blake3(c).digest() for c in chunks)).hexdigest()


def test_an_empty_image_has_the_digest_of_nothing() -> None:
    assert ImageDigest().hexdigest() == blake3(b"").hexdigest()


def test_a_digest_tells_the_order_of_chunks() -> None:
    assert _digest(b"a" * CHUNK + b"b" * CHUNK) != _digest(b"b" * CHUNK + b"a" * CHUNK)


def test_a_digest_tells_one_zero_more() -> None:
    assert _digest(ZEROS) != _digest(ZEROS + b"\0")


def test_a_chunk_may_be_bytes_a_bytearray_or_a_view() -> None:
    data = b"some bytes"
    views = (data, bytearray(data), memoryview(data))
    assert {chunk_digest(view) for view in views} == {blake3(data).digest()}
    assert len(chunk_digest(data)) == DIGEST_SIZE


@given(length=st.integers(0, CHUNK))
def test_a_short_chunk_of_zeros_has_the_digest_of_its_zeros(length: int) -> None:
    assert zero_digest(length) == blake3(bytes(length)).digest()


@given(before=st.integers(0, 2), chunks=st.integers(0, 5), rest=st.integers(0, CHUNK - 1))
def test_zeros_that_are_not_hashed_give_the_digest_of_zeros_that_are(
    before: int, chunks: int, rest: int
) -> None:
    head = b"x" * (before * CHUNK)
    digest = ImageDigest()
    for begin in range(0, len(head), CHUNK):
        digest.add(chunk_digest(head[begin : begin + CHUNK]))
    digest.add_zeros(chunks * CHUNK + rest)
    assert digest.hexdigest() == _digest(head + bytes(chunks * CHUNK + rest))


def test_a_long_run_of_zeros_is_the_sum_of_its_parts() -> None:
    whole, parts = ImageDigest(), ImageDigest()
    whole.add_zeros(10_000 * CHUNK + 1)
    for _ in range(10):
        parts.add_zeros(1000 * CHUNK)
    parts.add_zeros(1)
    assert whole.hexdigest() == parts.hexdigest()
