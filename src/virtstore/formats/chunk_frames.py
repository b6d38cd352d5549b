"""One chunk of an image as one zstd frame that stands for itself.

A frame is made once, where a chunk is read, and travels, is stored and is checked as it
is until it is decompressed where the chunk is written. A run of zeros is one long frame
that is made once in a process: zeros are neither compressed nor decompressed.

Frames of virtstore state their content size in eight bytes, where libzstd would take the
fewest. Any decoder reads that; ours knows by it that an archive of such frames must end
with a seek table, so that one cut off between two frames is not taken for a whole one.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final

import zstandard

from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.zstd_frames import (
    CHECKSUM_SIZE,
    MAGIC,
    MAX_BLOCK,
    FrameHeader,
    parse_header,
)

LEVELS: Final = range(1, 23)
DEFAULT_LEVEL: Final = 1

#: The longest run of zeros in one frame.
MAX_ZEROS: Final = 1 << 30
#: The longest frame: zstd's own bound on a chunk that does not compress is 1 MiB + 4 KiB.
MAX_FRAME: Final = CHUNK + (64 << 10)
#: What a frame's window may be, as `zstd -d` on a small machine would want it.
MAX_FRAME_WINDOW: Final = 8 << 20

_WINDOW_LOG: Final = CHUNK.bit_length() - 1
_MOST_ZEROS_LOG: Final = (MAX_ZEROS // CHUNK).bit_length() - 1

# A frame of zeros (RFC 8878, 3.1.1.2): a first block of 128 KiB, compressed, since decoders up
# to 1.4.3 take no other kind there; the next ones, each a zero and how often it is there; and an
# empty last one.
_FIRST_ZEROS: Final = bytes.fromhex("540000 1000000100fbff39c002")
_MORE_ZEROS: Final = bytes.fromhex("020010 00")
_NO_MORE: Final = bytes.fromhex("010000")
#: The checksums (XXH64, its low 4 bytes) of 1 MiB of zeros, of 2 MiB, and so on to `MAX_ZEROS`.
_ZERO_CHECKSUMS: Final = bytes.fromhex(
    "f13e16e1 db238ef8 289dbc7c 0fdff661 0bd8e25e 3f8a244c a70f257c 340f6671 0d622ab1 04f540c2"
    "7f07ffb7"
)

_contexts = threading.local()


def compress_block(data: bytes | bytearray | memoryview, level: int = DEFAULT_LEVEL) -> bytes:
    """A frame, with content size and checksum, of `data`: 1 byte to `CHUNK` bytes."""
    if not 0 < len(data) <= CHUNK:
        raise ValueError(f"a block has 1 to {CHUNK} bytes, not {len(data)}")
    return _state_size_in_eight_bytes(_compressor(level).compress(data), len(data))


def decompress_block(frame: bytes | memoryview, limit: int = CHUNK) -> bytes:
    """The contents, at most `limit` bytes, of `frame`, which is one frame and nothing else.

    Raises `Corrupt` for anything that `compress_block` cannot have made of such contents,
    before memory is spent on what it claims.
    """
    header = _require_block(frame, limit)
    try:
        data = _decompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"a block fails its checks ({error})") from None
    if len(data) != header.content_size:
        raise Corrupt(f"a block holds {len(data)} bytes and claims {header.content_size}")
    return data


def zero_frames(length: int) -> Iterator[tuple[bytes, int]]:
    """Frames for a run of `length` zeros that begins on a chunk boundary, and ends on one
    or with the image; each with the image bytes that it holds."""
    chunks, rest = divmod(length, CHUNK)
    while chunks:
        power = min(chunks.bit_length() - 1, _MOST_ZEROS_LOG)
        yield _zero_frame(power), CHUNK << power
        chunks -= 1 << power
    if rest:
        yield _short_zero_frame(rest), rest


def holds_zeros(frame: bytes, length: int) -> bool:
    """Whether `frame` is, byte for byte, this process's own for `length` zeros."""
    chunks, rest = divmod(length, CHUNK)
    if not chunks:
        return frame == _short_zero_frame(length)
    if rest or length > MAX_ZEROS or chunks & (chunks - 1):
        return False
    return frame == _zero_frame(chunks.bit_length() - 1)


def require_zeros(frame: bytes, length: int) -> None:
    """Raise `Corrupt` unless `frame` is one frame of exactly `length` zeros.

    One that another implementation, or another version of libzstd, made is decompressed
    to see; what that holds in memory does not depend on `length`.
    """
    if holds_zeros(frame, length):
        return
    header = _require_block(frame, MAX_ZEROS)
    if header.content_size != length or not _decompresses_to_zeros(frame):
        raise Corrupt(f"a frame that should be {length} zeros is not")


def _decompresses_to_zeros(frame: bytes) -> bool:
    # The shortest block is 4 bytes and holds 128 KiB, so a slice of the frame gives at
    # most 2 MiB. libzstd itself checks the content size and the checksum at the end.
    decoder = _decompressor().decompressobj()
    try:
        for begin in range(0, len(frame), 64):
            data = decoder.decompress(frame[begin : begin + 64])
            if data != bytes(len(data)):
                return False
            if decoder.eof:
                return begin + 64 >= len(frame) and not decoder.unused_data
    except zstandard.ZstdError:
        return False
    return False


def _require_block(frame: bytes | memoryview, limit: int) -> FrameHeader:
    header = _parse(frame)
    if header.content_size is None or not 0 < header.content_size <= limit:
        raise Corrupt(f"a block claims {header.content_size} bytes; 1 to {limit} are allowed")
    if header.window > MAX_FRAME_WINDOW:
        raise Corrupt(f"a block claims a window of {header.window} bytes")
    if not header.has_checksum:
        raise Corrupt("a block has no checksum")
    return header


def _parse(frame: bytes | memoryview) -> FrameHeader:
    try:
        return parse_header(bytes(frame[:18]))
    except Unsupported as error:  # too large a window: a user's archive may, a block may not
        raise Corrupt(error.message) from None


def _state_size_in_eight_bytes(frame: bytes, size: int) -> bytes:
    # RFC 8878, 3.1.1.1: magic number, descriptor, window descriptor unless "single
    # segment", dictionary id (none here), content size; blocks follow.
    descriptor = frame[4]
    header = zstandard.frame_header_size(frame)
    stated = 8 if descriptor >> 6 == 3 else header - 5 - (not descriptor & 0x20)
    return b"".join(
        (
            frame[:4],
            bytes((descriptor | 0xC0,)),
            frame[5 : header - stated],
            struct.pack("<Q", size),
            memoryview(frame)[header:],
        )
    )


@cache
def _zero_frame(power: int) -> bytes:
    """The frame for 2**power MiB of zeros, byte for byte as libzstd makes it at level 1 with a
    window of 1 MiB; but that would take a third of a second for a GiB."""
    length = CHUNK << power
    descriptor = b"\xc4\x50" if power else b"\xe4"  # one segment needs no window
    return b"".join(
        (
            MAGIC,
            descriptor,
            struct.pack("<Q", length),
            _FIRST_ZEROS,
            _MORE_ZEROS * (length // MAX_BLOCK - 1),
            _NO_MORE,
            _ZERO_CHECKSUMS[CHECKSUM_SIZE * power :][:CHECKSUM_SIZE],
        )
    )


@lru_cache(maxsize=4)
def _short_zero_frame(length: int) -> bytes:
    return compress_block(ZEROS[:length])


def _compressor(level: int) -> zstandard.ZstdCompressor:
    # A context is half a megabyte to set up and must not be shared between threads.
    made: dict[int, zstandard.ZstdCompressor] = _contexts.__dict__.setdefault("compressors", {})
    if level not in made:
        # libzstd's own window at level 1 is half a chunk; a whole one makes archives half a percent
        # smaller, in the same time.
        parameters = zstandard.ZstdCompressionParameters(
            compression_level=level,
            window_log=_WINDOW_LOG,
            write_checksum=True,
            write_content_size=True,
        )
        made[level] = zstandard.ZstdCompressor(compression_params=parameters)
    return made[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor = _contexts.__dict__.setdefault(
        "decompressor", zstandard.ZstdDecompressor(max_window_size=MAX_FRAME_WINDOW)
    )
    return made
