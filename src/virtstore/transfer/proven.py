"""Frames that their maker has checked, between the two ends of a copy in one process.

Between two hosts the target believes nothing, and decompresses and hashes each frame. Within one
process the compressing end has the chunk at hand: it decompresses the frame and compares. That
shows as much as a second digest, and is cheaper.
"""

from __future__ import annotations

from virtstore.errors import Corrupt
from virtstore.formats.chunk_frames import decompress_block
from virtstore.protocol import Data


class Proven(Data, frozen=True):
    """A chunk whose frame was seen to hold the bytes that have this `digest`. It is no message of
    the protocol: nothing that another host sent is taken for one."""

    digest: bytes = b""


def prove(offset: int, frame: bytes, contents: bytes, digest: bytes) -> Proven:
    """The chunk as proven. `digest` is that of `contents`. Raises `Corrupt` if the frame does not
    hold them."""
    if decompress_block(frame, len(contents)) != contents:
        raise Corrupt(
            f"what was compressed at byte {offset} does not decompress to the same; this host's"
            " memory or processor may be faulty"
        )
    return Proven(offset, len(contents), digest=digest)
