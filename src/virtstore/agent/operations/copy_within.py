"""A copy between two images of one host: both ends in one process, connected by an iterator."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_target import Opened, surveyed
from virtstore.agent.policy import Place
from virtstore.errors import Corrupt, blamed_on
from virtstore.protocol import End, Sent
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import Outcome, receive
from virtstore.transfer.send import Encoding, send


def copy_within(
    agent: Agent, origin: Place, source: Source, place: Place, opened: Opened, encoding: Encoding
) -> Outcome:
    """A copy between two images of this host, up to but not including its publishing."""

    def frames() -> Iterator[Sent]:
        with blamed_on(origin.path):
            yield from send(source, encoding, opened.existing)

    with (
        surveyed(agent, opened, place, lambda zeros, fingerprints, last: agent.session.check()),
        closing(_reported(agent, frames(), source.size)) as reported,
    ):
        try:
            return receive(reported, source.size, opened.target, agent.session.fail)
        except Corrupt as error:  # frames go on as they lie: what is found there was here
            error.path = error.path or origin.path
            raise


def _reported(agent: Agent, frames: Iterator[Sent], size: int) -> Generator[Sent, None, None]:
    """The same frames, with progress told to the client."""
    for frame in frames:
        yield frame
        if not isinstance(frame[0], End):
            agent.session.progress(frame[0].offset + frame[0].length, size)
