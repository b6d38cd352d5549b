"""The frames of a copy between two hosts, as an agent sends them and takes them in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from virtstore import formats
from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_kept import Keeping
from virtstore.agent.operations.copy_source import check_archive
from virtstore.agent.operations.copy_target import level_for
from virtstore.copy_options import CopyOptions
from virtstore.digest import CHUNK
from virtstore.errors import ConnectionFailed, Corrupt
from virtstore.protocol import (
    Abandon,
    AnyMessage,
    Begin,
    Closed,
    Data,
    End,
    Patch,
    Published,
    Same,
    Sent,
    Start,
    Zero,
)
from virtstore.transfer.pieces import Source
from virtstore.transfer.send import Encoding, send


def send_frames(
    agent: Agent, source: Source, encoding: Encoding, begin: Begin, keeping: Keeping | None = None
) -> End:
    """Send an open source, once the client says that its target is ready. Where its snapshot is
    kept (`keeping`), what has not changed since the base was made is not read."""
    session = agent.session
    target = session.take_fingerprints(source.size)
    session.send(begin)
    start, _ = session.expect()
    if not isinstance(start, Start):
        raise _out_of_order(start)
    if start.check:
        check_archive(agent, source)
    if keeping and start.compare:
        source = keeping.since(start.base)
    # Closed before what it reads is: its threads may be at work.
    with closing(send(source, encoding, target if start.compare else None)) as frames:
        for message, payload in frames:
            session.check()
            if isinstance(message, End):
                return message
            session.send(message, payload)
            session.reached("copying", message.offset + message.length, source.size)
            target.forget((message.offset + message.length) // CHUNK)
    raise AssertionError("what is sent ends with an End")


def keep_once_published(agent: Agent, keeping: Keeping, end: End) -> Closed:
    """Tell that all was sent, and keep the snapshot once the client says that the archive of it has
    its name. Where the client goes instead, the snapshot does, too."""
    agent.session.send(end)
    message, _ = agent.session.expect()
    if not isinstance(message, Published):
        raise _out_of_order(message)
    return Closed(keeping.keep(end.digest))


def encoding_of(options: CopyOptions) -> Encoding:
    """What is sent to another host: frames as its archive keeps them, or what moves fastest."""
    whole = options.compression == "zstd"
    level = options.level if options.compression in (None, "zstd") else None
    return Encoding(
        whole_frames=whole,
        level=level_for(formats.by_name("zstd"), level),
        adaptive=level is None and not whole,
        bwlimit=options.bytes_per_second,
    )


def arriving(agent: Agent, size: int) -> Iterator[Sent]:
    """The source's frames, as the client passes them on."""
    while True:
        message, payload = agent.session.expect()
        match message:
            case Abandon():
                raise Corrupt("the source failed")
            case Data() | Patch() | Zero() | Same():
                agent.session.reached("copying", message.offset + message.length, size)
                yield message, payload
            case End():
                yield message, b""
                return
            case _:
                raise _out_of_order(message)


def _out_of_order(message: AnyMessage) -> ConnectionFailed:
    return ConnectionFailed(f"a {type(message).__name__} in the middle of a copy")
