"""The source's end of a copy: pieces in, frames of the protocol out.

Each chunk is read, hashed and, if the target has not got it, compressed, by several
threads at once; what comes out is in the image's order. Zeros are told, not sent, and of a
chunk of which the target has a part only the blocks that differ.

Between two hosts the target believes nothing, and decompresses and hashes each frame. Within one
process the compressing end has the chunk at hand: it decompresses the frame and compares. That
shows as much as a second digest, and is cheaper (`Proven`). A chunk that goes as it is needs
neither.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from virtstore.digest import CHUNK, DIGEST_SIZE, ZEROS, ImageDigest, chunk_digest, zero_digest
from virtstore.errors import Corrupt
from virtstore.formats.chunk_frames import DEFAULT_LEVEL, compress_block, decompress_block
from virtstore.formats.seals import NOTHING
from virtstore.protocol import Data, End, Patch, Same, Sent, Zero
from virtstore.transfer.adaptive import FALLING, AdaptiveLevel
from virtstore.transfer.fingerprints import Fingerprints, block_range, differing_blocks
from virtstore.transfer.hashing import confirm
from virtstore.transfer.pieces import Piece, Source, announced
from virtstore.transfer.pipeline import BATCH, in_order

#: What compresses to more than this part of itself is sent as it is.
_WORTH_IT: Final = 15 / 16


class Encoding(msgspec.Struct, frozen=True):
    """How chunks are sent.

    `frames`: as zstd frames of `level`, else raw, as between the two ends of a copy within one
    host. `adaptive`: the level may fall. `whole_frames`: each chunk is one frame, whatever the
    target has of it and however badly it compresses. `proven`: each chunk goes with its digest, and
    a frame is checked by its maker, for a target in this process (`Proven`). `bwlimit`: bytes of
    payload a second.
    """

    frames: bool = True
    whole_frames: bool = False
    proven: bool = False
    level: int = DEFAULT_LEVEL
    adaptive: bool = False
    bwlimit: int | None = None


class Proven(Data, frozen=True):
    """A chunk that has this `digest`: its frame was seen to hold those bytes. It is no message of
    the protocol: nothing that another host sent is taken for one."""

    digest: bytes = b""


class _Told(NamedTuple):
    """A message. `read`: bytes of the image that were read to know it."""

    message: Data | Patch | Zero | Same
    payload: bytes = b""
    digest: bytes | None = None
    read: int = 0


def send(
    source: Source, encoding: Encoding, target: Fingerprints | None
) -> Generator[Sent, None, None]:
    """The frames of a whole image, ending with `End`. Chunks that the `target` has already are sent
    as `Same`. Raises `Corrupt` where an archive does not hold what it says."""

    packer = _Packer(encoding)

    def tell(piece: Piece) -> _Told:
        return _tell(piece, packer, target)

    results = packer.level.follow(in_order(tell, announced(source.pieces()), batch=BATCH))
    digest = ImageDigest()
    passed_on = False
    read = 0
    try:
        for told in _paced(_merged(results), encoding.bwlimit):
            yield told.message, told.payload
            read += told.read
            if isinstance(told.message, Zero):
                digest.add_zeros(told.message.length)
            elif told.digest:
                digest.add(told.digest)
            else:
                passed_on = True
    except OSError:
        source.check()  # a better reason, if there is one
        raise
    source.check()
    computed = None if passed_on else digest.hexdigest()
    if computed:
        confirm(source, computed)
    yield End(_settle(source, computed), read), b""


class _Packer:
    """Compresses what is sent, if it is to be compressed."""

    def __init__(self, encoding: Encoding) -> None:
        self.frames = encoding.frames
        self.whole_frames = encoding.whole_frames
        self.proven = encoding.proven
        self.level = AdaptiveLevel(FALLING if encoding.adaptive else (encoding.level,))

    def pack(self, contents: bytes) -> tuple[bytes, bool]:
        """The payload for these bytes, and whether it is the bytes themselves."""
        if self.frames:
            with self.level.compressing() as level:
                frame = compress_block(contents, level)
            if self.whole_frames or len(frame) < len(contents) * _WORTH_IT:
                return frame, False
        return contents, True


def _tell(piece: Piece, packer: _Packer, target: Fingerprints | None) -> _Told:
    if piece.zeros:
        return _Told(Zero(piece.offset, piece.length))
    if piece.frame and packer.frames and target is None:
        # Stored as it is sent. Its digest is not known here; the target computes it.
        return _Told(Data(piece.offset, piece.length), piece.frame(), read=piece.length)
    there = target.get(piece.offset // CHUNK) if target else b""
    if piece.as_in_base and (told := _as_in_base(piece, there[:DIGEST_SIZE])):
        return told
    if there and piece.digest and there[:DIGEST_SIZE] == (digest := piece.digest()):
        return _Told(Same(piece.offset, piece.length), digest=digest)  # without reading it
    return _tell_read(piece, there, packer)._replace(read=piece.length)


def _as_in_base(piece: Piece, digest: bytes) -> _Told | None:
    """A chunk that is the base's, which has this digest there; None where the base has no sound
    one."""
    if digest in (b"", NOTHING):
        return None
    if digest == zero_digest(piece.length):
        return _Told(Zero(piece.offset, piece.length))
    return _Told(Same(piece.offset, piece.length), digest=digest)


def _tell_read(piece: Piece, there: bytes, packer: _Packer) -> _Told:
    """A chunk that has to be read, of which the target has what has the fingerprint `there`."""
    contents = piece.contents()
    if contents == ZEROS[: piece.length]:
        return _Told(Zero(piece.offset, piece.length))
    digest = chunk_digest(contents)
    if there[:DIGEST_SIZE] == digest:
        return _Told(Same(piece.offset, piece.length), digest=digest)
    if there and not packer.whole_frames and (told := _patch(piece, contents, there, packer)):
        return told._replace(digest=digest)
    if piece.frame and packer.frames:
        return _Told(Data(piece.offset, piece.length), piece.frame(), digest)
    payload, raw = packer.pack(contents)
    if packer.proven:
        if not raw:
            _require_same(piece.offset, payload, contents)
        proven = Proven(piece.offset, piece.length, raw, digest=digest)
        return _Told(proven, payload, digest)
    return _Told(Data(piece.offset, piece.length, raw), payload, digest)


def _patch(piece: Piece, contents: bytes, there: bytes, packer: _Packer) -> _Told | None:
    """The blocks of a chunk that the target lacks, as a message; None if it lacks all or none."""
    blocks = differing_blocks(contents, there)
    ranges = [block_range(number, piece.length) for number in blocks]
    differing = b"".join(contents[begin:end] for begin, end in ranges)
    if not 0 < len(differing) < piece.length:
        return None
    payload, raw = packer.pack(differing)
    return _Told(Patch(piece.offset, piece.length, blocks, raw), payload)


def _settle(source: Source, computed: str | None) -> str:
    """The digest that the target has to find: the computed one, or the one that the archive records
    if frames were passed on unread."""
    if computed and source.digest and computed != source.digest:
        raise Corrupt("the archive's contents are not those that its digest was made of")
    digest = computed or source.digest
    if digest is None:  # only an archive that records a digest passes frames on
        raise AssertionError("frames were passed on from a source without a digest")
    return digest


def _merged(told: Iterable[_Told]) -> Iterator[_Told]:
    """The same messages, with neighbouring runs of zeros joined."""
    zeros: Zero | None = None
    read = 0
    for one in told:
        if isinstance(one.message, Zero):
            start = zeros.offset if zeros else one.message.offset
            zeros = Zero(start, one.message.offset + one.message.length - start)
            read += one.read
            continue
        if zeros:
            yield _Told(zeros, read=read)
            zeros, read = None, 0
        yield one
    if zeros:
        yield _Told(zeros, read=read)


def _paced(told: Iterable[_Told], bwlimit: int | None) -> Iterator[_Told]:
    """Let no more than `bwlimit` bytes of payload through a second. A pause that was longer
    than needed is made up for within a second, never by a burst after a stall."""
    due = time.monotonic()
    for one in told:
        yield one
        if bwlimit:
            due = max(due, time.monotonic() - 1) + len(one.payload) / bwlimit
            time.sleep(max(0, due - time.monotonic()))


def _require_same(offset: int, frame: bytes, contents: bytes) -> None:
    """Raises `Corrupt` if the frame does not hold the contents."""
    if decompress_block(frame, len(contents)) != contents:
        raise Corrupt(
            f"what was compressed at byte {offset} does not decompress to the same; this host's"
            " memory or processor may be faulty"
        )
