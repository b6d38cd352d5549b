"""A chunk is one zstd frame that stands for itself, and nothing else is taken for one."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Corrupt
from virtstore.formats.chunk_frames import (
    LEVELS,
    MAX_FRAME,
    MAX_ZEROS,
    compress_block,
    decompress_block,
    holds_zeros,
    require_zeros,
    zero_frames,
)
from virtstore.formats.zstd_frames import parse_header
from virtstore.transfer.adaptive import FALLING

NOISE = random.Random(1).randbytes(CHUNK)
TEXT = b"the quick brown fox jumps over the lazy dog. " * 400


def _foreign(data: bytes, *, write_checksum: bool = True, write_content_size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(
        1, write_checksum=write_checksum, write_content_size=write_content_size
    )
    return compressor.compress(data)


@given(data=st.binary(min_size=1, max_size=5000), level=st.sampled_from([*FALLING, 3, 22]))
def test_a_block_gives_back_what_it_was_made_of(data: bytes, level: int) -> None:
    assert decompress_block(compress_block(data, level)) == data


@pytest.mark.parametrize("length", [1, 255, 256, 65535, 65791, 65792, CHUNK - 1, CHUNK])
@pytest.mark.parametrize("source", [NOISE, ZEROS], ids=["noise", "zeros"])
def test_a_block_of_any_length_is_plain_zstd(source: bytes, length: int) -> None:
    frame = compress_block(source[:length])
    assert zstandard.ZstdDecompressor().decompress(frame) == source[:length]
    assert decompress_block(frame) == source[:length]
    assert len(frame) <= MAX_FRAME


@pytest.mark.parametrize("level", [*LEVELS, *FALLING[1:]])
def test_a_block_of_any_level_is_marked_and_checked_and_has_a_small_window(level: int) -> None:
    header = parse_header(compress_block(TEXT, level))
    assert header.ours
    assert header.has_checksum
    assert header.content_size == len(TEXT)
    assert header.window <= CHUNK


@pytest.mark.parametrize("level", [1, *FALLING[1:], 3])
def test_a_block_may_refer_to_anything_before_it_in_its_chunk(level: int) -> None:
    assert parse_header(compress_block((TEXT * 100)[:CHUNK], level)).window == CHUNK


def test_a_block_may_be_made_of_a_view() -> None:
    assert decompress_block(compress_block(memoryview(TEXT)[10:20])) == TEXT[10:20]


@pytest.mark.parametrize("data", [b"", ZEROS + b"\0"], ids=["nothing", "too much"])
def test_what_is_no_chunk_makes_no_block(data: bytes) -> None:
    with pytest.raises(ValueError, match="a block has 1 to"):
        compress_block(data)


def test_a_frame_that_another_zstd_made_is_a_block_too() -> None:
    assert decompress_block(_foreign(TEXT)) == TEXT


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x28\xb5\x2f",
        b"not zstd at all, but long enough",
        _foreign(TEXT, write_checksum=False),
        _foreign(TEXT, write_content_size=False),
        _foreign(b""),
        compress_block(TEXT) + b"\0",
        compress_block(TEXT) + compress_block(TEXT),
        b"\x50\x2a\x4d\x18\x01\0\0\0x" + compress_block(TEXT),
        compress_block(TEXT) + b"\x50\x2a\x4d\x18\x01\0\0\0x",
    ],
    ids=[
        "empty",
        "half a magic number",
        "something else",
        "without checksum",
        "without size",
        "of nothing",
        "junk behind",
        "two frames",
        "skippable frame before",
        "skippable frame behind",
    ],
)
def test_only_one_whole_checked_frame_is_a_block(frame: bytes) -> None:
    with pytest.raises(Corrupt):
        decompress_block(frame)


def test_a_block_larger_than_its_limit_is_refused() -> None:
    assert decompress_block(compress_block(TEXT), len(TEXT)) == TEXT
    with pytest.raises(Corrupt, match="claims 18000 bytes"):
        decompress_block(compress_block(TEXT), len(TEXT) - 1)


def test_a_block_that_claims_8_EiB_costs_no_memory() -> None:
    frame = bytearray(compress_block(TEXT))
    claim = frame.index((len(TEXT)).to_bytes(8, "little"))
    for size in (1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1):
        frame[claim : claim + 8] = size.to_bytes(8, "little")
        with pytest.raises(Corrupt):
            decompress_block(bytes(frame))


def test_a_block_with_a_huge_window_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd" + bytes([0x84, 0x98]) + (1).to_bytes(4, "little")  # 512 MiB
    with pytest.raises(Corrupt, match="window"):
        decompress_block(header + b"\x09\0\0x" + bytes(4))


def test_every_flipped_bit_of_a_block_is_seen_or_harmless() -> None:
    data = TEXT[:200] + bytes(50)
    frame = compress_block(data)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert decompress_block(bytes(damaged)) == data
        except Corrupt:
            continue


def test_a_block_truncated_anywhere_is_refused() -> None:
    frame = compress_block(TEXT)
    for length in range(len(frame)):
        with pytest.raises(Corrupt):
            decompress_block(frame[:length])


def test_threads_do_not_disturb_each_other() -> None:
    chunks = [NOISE[i : i + 50_000] + TEXT for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decompress_block, pool.map(compress_block, chunks))) == chunks


@given(chunks=st.integers(0, 5000), rest=st.integers(0, CHUNK - 1))
def test_zero_frames_add_up_and_only_the_last_is_no_whole_chunk(chunks: int, rest: int) -> None:
    length = chunks * CHUNK + rest
    lengths = [held for _, held in zero_frames(length)]
    assert sum(lengths) == length
    assert all(held % CHUNK == 0 for held in lengths[:-1])
    assert all(0 < held <= MAX_ZEROS for held in lengths)
    assert len(lengths) <= chunks // 1024 + 12


def test_a_gibibyte_of_zeros_is_a_small_marked_frame_with_a_small_window() -> None:
    ((frame, length),) = zero_frames(MAX_ZEROS)
    header = parse_header(frame)
    assert length == header.content_size == MAX_ZEROS
    assert header.ours
    assert header.has_checksum
    assert header.window <= 8 << 20
    assert len(frame) < 40_000


@pytest.mark.parametrize("chunks", [1 << power for power in range(11)])
def test_a_frame_of_zeros_made_by_hand_passes_the_checks_of_libzstd(chunks: int) -> None:
    ((frame, length),) = zero_frames(chunks * CHUNK)
    decoder = zstandard.ZstdDecompressor(max_window_size=8 << 20).decompressobj()
    held = 0
    for begin in range(0, len(frame), 64):
        zeros = decoder.decompress(frame[begin : begin + 64])
        assert zeros == bytes(len(zeros))
        held += len(zeros)
    assert decoder.eof  # with the content size and the checksum that it states
    assert held == length == chunks * CHUNK


def test_zero_frames_hold_zeros_for_any_zstd() -> None:
    length = 7 * CHUNK + 12345
    decompressor = zstandard.ZstdDecompressor(max_window_size=8 << 20)
    frames = [frame for frame, _ in zero_frames(length)]
    assert b"".join(map(decompressor.decompress, frames)) == bytes(length)


def test_zeros_are_recognised_without_being_decompressed() -> None:
    for frame, length in zero_frames(3 * CHUNK + 5):
        assert holds_zeros(frame, length)
        assert not holds_zeros(frame, length + CHUNK)
        assert not holds_zeros(frame[:-1], length)
    assert not holds_zeros(compress_block(NOISE), CHUNK)


def test_another_zstds_frame_of_zeros_is_taken_and_anything_else_is_not() -> None:
    zeros = _foreign(bytes(3 * CHUNK))
    require_zeros(zeros, 3 * CHUNK)
    almost = bytearray(3 * CHUNK)
    almost[2 * CHUNK] = 1
    for frame, length in [
        (zeros, 2 * CHUNK),
        (zeros, 4 * CHUNK),
        (zeros[:-1], 3 * CHUNK),
        (zeros[:-4], 3 * CHUNK),
        (zeros + b"\0", 3 * CHUNK),
        (_foreign(bytes(almost)), 3 * CHUNK),
        (_foreign(bytes(3 * CHUNK), write_checksum=False), 3 * CHUNK),
    ]:
        with pytest.raises(Corrupt):
            require_zeros(frame, length)
