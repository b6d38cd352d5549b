"""The two ends that a copy to or from a pipe can have: what a pipe gives is sent, what arrives is
written to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from virtstore import formats
from virtstore.agent import priority
from virtstore.agent.container import remarks
from virtstore.agent.context import Agent
from virtstore.agent.operations import Handler
from virtstore.agent.operations.copy_frames import arriving, encoding_of, send_frames
from virtstore.agent.operations.copy_source import check_archive
from virtstore.agent.operations.copy_target import level_for
from virtstore.errors import Corrupt, Unsupported, UsageError
from virtstore.formats.summary import Label
from virtstore.location import PIPE
from virtstore.protocol import Ask, Begin, End, Ready, Receive, Received, Send
from virtstore.transfer.pipes import PipeSink, Plain, whole_input
from virtstore.transfer.receive import Target, receive
from virtstore.transfer.sources import open_source
from virtstore.transfer.writers import FrameTarget, StreamTarget


def handlers_of(descriptor: int) -> Callable[[type[Ask[Any]]], Handler]:
    """What does requests of a type, for the pipe that a descriptor is."""

    def handler(kind: type[Ask[Any]]) -> Handler:
        if kind is Send:
            return lambda agent, request: _send(agent, request, descriptor)
        if kind is Receive:
            return lambda agent, request: _receive(agent, request, descriptor)
        raise UsageError("standard input and output are ends of a copy, and nothing else")

    return handler


def _send(agent: Agent, request: Send, descriptor: int) -> End:
    if request.options.nice:
        priority.lower()
    if request.options.snapshot:
        raise Unsupported("there are no snapshots of standard input; leave --snapshot out")
    agent.session.stage("reading")
    with whole_input(descriptor, agent.session.check) as image:
        if image.size == 0:
            raise Corrupt("standard input was empty")
        source = open_source(image, raw=request.options.raw)
        if request.contents:
            check_archive(agent, source)
        holds = source.holds.name if source.holds else None
        begin = Begin(PIPE, source.size, holds)
        return send_frames(agent, source, encoding_of(request.options), begin)


def _receive(agent: Agent, request: Receive, descriptor: int) -> Received | Ready:
    if request.options.nice:
        priority.lower()
    if request.options.sparse:
        raise Unsupported("standard output has no holes; leave --sparse out")
    with ExitStack() as stack:
        sink = PipeSink(descriptor)
        target = _target(sink, request, stack)
        ready = Ready(PIPE, compare=False)
        if request.dry_run:
            return ready
        agent.session.send(ready)
        frames = arriving(agent, request.size)
        outcome = receive(frames, request.size, target, agent.session.fail)
    told = remarks(PIPE, request.holds, request.options.compression)
    return Received(PIPE, request.size, outcome.written, outcome.digest, told)


def _target(sink: PipeSink, request: Receive, stack: ExitStack) -> Target:
    """What writes an image to the pipe: the archive that was asked for, or its bytes."""
    archive = request.options.compression
    level = level_for(formats.by_name(archive or "zstd"), request.options.level)
    if archive == "zstd":
        label = Label(raw=request.holds is None, origin=request.origin)
        return FrameTarget(sink, label=label)
    stream = StreamTarget(sink, formats.STREAMS[archive] if archive else Plain(), level)
    stack.callback(stream.abandon)
    return stream
