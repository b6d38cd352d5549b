"""The target's end of a copy: frames of the protocol in, a verified draft out.

Nothing that arrives is believed: chunks must come in order and without gaps, each must
decompress to the length that it declares, and the digest of what was written must be the
one that the source ends with. Publishing is the caller's step, after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, Protocol

import msgspec

from virtstore.digest import CHUNK, ImageDigest
from virtstore.errors import Corrupt
from virtstore.protocol import Data, End, Part, Patch, Same, Sent, Zero
from virtstore.transfer.fingerprints import MOST_AT_ONCE, block_range
from virtstore.transfer.pipeline import in_order


class Outcome(msgspec.Struct, frozen=True):
    """What a copy came to. `written`: bytes written to the target; `digest`: the image's, as
    computed from what arrived. `read`: bytes read of the source, if that says it."""

    written: int
    digest: str
    read: int | None = None


class Taken(NamedTuple):
    """What a worker made of a frame. `length`: bytes of the image; `digest`: of the chunk, None for
    zeros; `written`: bytes that the worker wrote; `rest`: bytes that `commit` is to write in the
    image's order, None for none; `checksum`: of `rest`, where that is a frame (`formats.seals`)."""

    length: int
    digest: bytes | None = None
    written: int = 0
    rest: bytes | None = None
    checksum: bytes = b""


class Target(Protocol):
    """What a copy writes to."""

    @property
    def written(self) -> int:
        """Bytes written so far."""
        ...

    def take(self, part: Part) -> Taken:
        """Check and decompress one frame, and write what needs no order. Called in any thread and
        any order."""
        ...

    def commit(self, taken: Taken) -> None:
        """Write what needs order. Called by one thread, for each frame in the image's order."""
        ...

    def finish(self, digest: str) -> None:
        """End the image, which is whole and has this digest."""
        ...


def receive(
    frames: Iterable[Sent],
    size: int,
    target: Target,
    failed: Callable[[BaseException], None] = lambda _: None,
) -> Outcome:
    """Write a whole image of `size` bytes to the target. Raises `Corrupt` where what arrives is not
    whole, or does not have the source's digest. `failed` is called with an error as soon as a
    thread meets it: the error is raised here only when the next frame arrives, which may take
    long."""
    sequence = _Sequence(frames, size)
    digest = ImageDigest()

    def take(part: Part) -> Taken:
        try:
            return target.take(part)
        except BaseException as error:
            failed(error)
            raise

    # Closed before what is written to is: its threads may be at work.
    with closing(in_order(take, sequence.data())) as results:
        for taken in results:
            if taken.digest is None:
                digest.add_zeros(taken.length)
            else:
                digest.add(taken.digest)
            target.commit(taken)
    computed = digest.hexdigest()
    if computed != sequence.digest:
        raise Corrupt("what arrived is not what the source says it sent: the digests differ")
    target.finish(computed)
    return Outcome(target.written, computed, sequence.read)


class _Sequence:
    """Frames that must cover the image from start to end, and then `End`."""

    def __init__(self, frames: Iterable[Sent], size: int) -> None:
        self._frames = frames
        self._size = size
        self.digest: str | None = None
        self.read: int | None = None

    def data(self) -> Iterator[Part]:
        """The frames in order, up to `End`. Zeros come in runs of at most `MOST_AT_ONCE` chunks."""
        position = 0
        for message, payload in self._frames:
            if isinstance(message, End):
                self.digest, self.read = message.digest, message.read
                break
            self._check(message, position)
            position += message.length
            if isinstance(message, Zero):
                yield from ((run, b"") for run in _runs(message))
            else:
                yield message, payload
        else:
            raise Corrupt("the copy ended before the source said that it was whole")
        if position != self._size:
            raise Corrupt(f"the source sent {position} of {self._size} bytes")

    def _check(self, message: Data | Patch | Zero | Same, position: int) -> None:
        rest = self._size - position
        if message.offset != position or not 0 < message.length <= rest:
            raise Corrupt(f"the source sent bytes out of order, at {message.offset}")
        whole = message.length % CHUNK == 0 or message.length == rest
        if not whole or (message.length > CHUNK and not isinstance(message, Zero)):
            raise Corrupt(f"the source sent a chunk of {message.length} bytes")
        if isinstance(message, Patch):
            _check_blocks(message)


def _check_blocks(message: Patch) -> None:
    ranges = [block_range(number, message.length) for number in message.blocks]
    ascending = list(message.blocks) == sorted(set(message.blocks))
    if not ascending or not ranges or any(not 0 <= begin < end for begin, end in ranges):
        raise Corrupt(f"the source sent blocks that the chunk at {message.offset} has not")


def _runs(zero: Zero) -> Iterator[Zero]:
    step = MOST_AT_ONCE * CHUNK
    end = zero.offset + zero.length
    for offset in range(zero.offset, end, step):
        yield Zero(offset, min(step, end - offset))
