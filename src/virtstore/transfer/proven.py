"""A frame that need not be looked into again.

Between two hosts the target believes nothing, and decompresses and hashes each frame. Where
both ends are one process, whoever made a frame has at hand what it was made of: to compare
what it decompresses to with that shows as much, and is cheaper than a second digest.
"""

from __future__ import annotations

from virtstore.errors import Corrupt
from virtstore.formats.blocks import decompress_block
from virtstore.protocol import Data


class Proven(Data, frozen=True):
    """A chunk whose frame was seen to hold what `digest` was made of. It is no message of the
    protocol: what came from another host is never one."""

    digest: bytes = b""


def prove(offset: int, frame: bytes, contents: bytes, digest: bytes) -> Proven:
    """Raises `Corrupt` if the frame does not hold `contents`, of which `digest` is the digest."""
    if decompress_block(frame, len(contents)) != contents:
        raise Corrupt(
            f"what was compressed at byte {offset} does not decompress to the same; this host's"
            " memory or processor may be faulty"
        )
    return Proven(offset, len(contents), digest=digest)
