"""Hashing an image where it lies, so that only digests travel.

The same walk answers two questions: what does a copy's target have already (fingerprints of
chunks), and where do two images differ (digests of chunks, then of smaller blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from virtstore.digest import (
    CHUNK,
    DIGEST_SIZE,
    FINGERPRINT_SIZE,
    ZEROS,
    ImageDigest,
    chunk_digest,
    fingerprint,
    zero_digest,
    zero_fingerprint,
)
from virtstore.errors import Corrupt, InUse
from virtstore.transfer.frame_source import FrameSource
from virtstore.transfer.pieces import Piece, Source, announced
from virtstore.transfer.pipeline import BATCH, in_order

#: Blocks or chunks of zeros, then the digests or fingerprints of those behind them.
Batch = tuple[int, bytes]

#: Chunks in one batch: 64 MiB, so that a peer can begin with the first at once, and whoever
#: is to stop us gets a word in.
_BATCH: Final = 64


def survey(
    source: Source, block: int = CHUNK, chunks: frozenset[int] | None = None
) -> Iterator[Batch]:
    """The digests of the blocks of an image, in order. `block`: bytes of one, a divisor of a chunk;
    `chunks`: the numbers of the chunks to hash, None for all. Where an archive keeps the digests,
    its bytes are held against their checksums instead."""
    work = _kept_digests if block == CHUNK else partial(_digests, block=block)
    return _surveyed(_wanted(source.pieces(), chunks), work)


def _surveyed(pieces: Iterable[Piece], work: Callable[[Piece], Batch]) -> Iterator[Batch]:
    return _batched(in_order(work, announced(pieces), batch=BATCH), _BATCH * DIGEST_SIZE)


def fingerprints(source: Source, *, blocks: bool) -> Iterator[Batch]:
    """The fingerprints of all chunks, in order. `blocks`: with the digests of their blocks, else
    those are zeros."""
    pieces = announced(source.pieces())
    found = in_order(partial(_fingerprint, blocks=blocks), pieces, batch=BATCH)
    return _batched(found, _BATCH * FINGERPRINT_SIZE)


def _kept_digests(piece: Piece) -> Batch:
    if not (piece.check and piece.digest):
        return _digests(piece, CHUNK)
    piece.check()
    return 0, piece.digest()


def _digests(piece: Piece, block: int) -> Batch:
    contents = _contents(piece)
    if contents is None:
        whole, rest = divmod(piece.length, block)
        return whole, zero_digest(rest) if rest else b""
    view = memoryview(contents)
    starts = range(0, len(view), block)
    return 0, b"".join(chunk_digest(view[start : start + block]) for start in starts)


def _fingerprint(piece: Piece, *, blocks: bool) -> Batch:
    if piece.digest and not blocks:
        return 0, piece.digest().ljust(FINGERPRINT_SIZE, b"\0")
    contents = _contents(piece)
    if contents is None:
        whole, rest = divmod(piece.length, CHUNK)
        return whole, zero_fingerprint(rest) if rest else b""
    return 0, fingerprint(contents, blocks=blocks)


def _contents(piece: Piece) -> bytes | None:
    """A piece's bytes; None where all of them are zero."""
    contents = None if piece.zeros else piece.contents()
    return None if contents == ZEROS[: piece.length] else contents


def check(source: Source, told: Callable[[int, int], None], *, quick: bool = False) -> str:
    """Read the whole image and return its digest. Raises `Corrupt` where an archive does not
    hold what it says. `quick`: what an archive keeps checksums of is held against those, and not
    decompressed. `told` gets the bytes done and the size as it goes."""
    if quick and isinstance(source, FrameSource) and source.sealed:
        return _check_stored(source, told)
    computed = _digest(source, told)
    confirm(source, computed)
    if source.digest not in (None, computed):
        raise Corrupt("the archive's contents are not those that its digest was made of")
    return computed


def _check_stored(source: FrameSource, told: Callable[[int, int], None]) -> str:
    def work(piece: Piece) -> int:
        if piece.check:
            piece.check()
        return piece.length

    done = 0
    for length in in_order(work, announced(source.pieces()), batch=BATCH):
        done += length
        told(done, source.size)
    source.check()
    return source.digest or ""


def confirm(source: Source, digest: str) -> None:
    """Raises `InUse` where a source has changed since it was read. `digest`: of what was read."""
    again = source.again()
    if again and _digest(again, lambda done, size: None) != digest:
        raise InUse(
            "somebody wrote to it while it was being read, and set its time of modification back:"
            " its contents are no more what was read; --snapshot copies it as it is at one moment,"
            " --allow-in-use copies it while it changes"
        )


def _digest(source: Source, told: Callable[[int, int], None]) -> str:
    digest = ImageDigest()
    done = 0
    # An archive is decompressed, whatever it says of itself.
    pieces = source.strict_pieces() if isinstance(source, FrameSource) else source.pieces()
    for zeros, digests in _surveyed(pieces, partial(_digests, block=CHUNK)):
        digest.add_zeros(zeros * CHUNK)
        digest.add(digests)
        done += (zeros + len(digests) // DIGEST_SIZE) * CHUNK
        told(min(done, source.size), source.size)
    source.check()
    return digest.hexdigest()


def _wanted(pieces: Iterable[Piece], chunks: frozenset[int] | None) -> Iterator[Piece]:
    for piece in pieces:
        if chunks is None:
            yield piece
            continue
        end = piece.offset + piece.length
        for offset in range(piece.offset, end, CHUNK):
            if offset // CHUNK in chunks:
                yield piece._replace(offset=offset, length=min(CHUNK, end - offset))


def _batched(results: Iterable[Batch], most: int) -> Iterator[Batch]:
    """The same results, joined into batches of `most` bytes of digests or little more."""
    zeros, held = 0, bytearray()
    for more, digests in results:
        if (more and held) or len(held) >= most:
            yield zeros, bytes(held)
            zeros, held = 0, bytearray()
        zeros += more
        held += digests
    if zeros or held:
        yield zeros, bytes(held)
