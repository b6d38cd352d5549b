"""The half of `diff` that is done on each host: hashing an image where it lies."""

from __future__ import annotations

from virtstore.agent.context import Agent
from virtstore.agent.operations.copying import opened_source
from virtstore.copy_options import CopyOptions
from virtstore.digest import CHUNK, DIGEST_SIZE
from virtstore.errors import UsageError, blamed_on
from virtstore.protocol import Begin, Digests, End, HashImage, Send
from virtstore.transfer.survey import survey


def hash_image(agent: Agent, request: HashImage) -> End:
    if not DIGEST_SIZE <= request.block <= CHUNK or CHUNK % request.block:
        raise UsageError(f"a block of {request.block} bytes does not divide a chunk")
    chunks = None if request.chunks is None else frozenset(request.chunks)
    reading = Send(request.path, CopyOptions(allow_in_use=True))
    with opened_source(agent, reading) as (place, source):
        with blamed_on(place.path):
            foreign = source.holds
        agent.session.send(Begin(place.path, source.size, foreign.name if foreign else None))
        for zeros, digests in survey(source, request.block, chunks):
            agent.session.send(Digests(zeros), digests)
        source.check()
        return End(source.digest or "")
