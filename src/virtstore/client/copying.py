"""A copy: within one host, or from one to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from virtstore.client import answers
from virtstore.client.copy_between import ask_beforehand, relay
from virtstore.client.sessions import Sessions, with_both
from virtstore.client.telling import Teller, unheard
from virtstore.errors import Corrupt, Error
from virtstore.location import PIPE, canonical
from virtstore.protocol import ORIGINS, Begin, CopyHere, Receive, Received, Send


def copied(
    source: Sessions, target: Sessions, request: CopyHere, tell: Teller
) -> tuple[Received, int]:
    """Have an image copied. Returns the target's account, and the bytes of payload that crossed
    the wire."""
    if source.address == target.address and not (source.is_pipe or target.is_pipe):
        return _within(source, request, tell), 0
    with _pipe_by_its_name():
        return _between(source, target, request, tell)


def _within(host: Sessions, request: CopyHere, tell: Teller) -> Received:
    if request.options.nice:  # its agent stays nice, so nothing else is to be asked of it
        return host.answer_apart(request, tell)
    return host.answer(request, tell)


def _between(
    source: Sessions, target: Sessions, request: CopyHere, tell: Teller
) -> tuple[Received, int]:

    def told(done: int, total: int) -> None:
        other.heard = unheard  # from now on it is listened to in a thread of the relay's
        tell("copying", done, total)
        if done == total:
            tell("flushing", done, total)

    tell("connecting")
    with with_both(source, target, for_copy=True) as (one, other):
        one.heard = other.heard = tell.heard
        if source.is_pipe:  # it takes its time until the target is asked
            trial = msgspec.structs.replace(request, dry_run=True)
            ask_beforehand(other, _receive(trial, Begin(PIPE, 1)))
        options = request.options.for_source()
        send = Send(request.source, options, request.contents, request.kept_for)

        def receive(begin: Begin) -> Receive:
            asked = _receive(request, begin)
            origin = begin.origin if ORIGINS in other.features else None
            return msgspec.structs.replace(asked, origin=origin)

        with _blamed_on_source(source, request.source):
            received = relay(one, send, other, receive, told)
        return received, one.channel.received + other.channel.received


def _receive(request: CopyHere, begin: Begin) -> Receive:
    """The request to the target, once the source has said what it has."""
    return Receive(
        request.target,
        # Not the one that the source tells: it is the user who says what is overwritten.
        name=canonical(request.source).rpartition("/")[2] if request.source != PIPE else "",
        size=begin.size,
        options=request.options.for_receiver(),
        contents=request.contents,
        dry_run=request.dry_run,
        holds=begin.holds,
        lost=begin.lost,
    )


@contextmanager
def _blamed_on_source(source: Sessions, path: str) -> Iterator[None]:
    """Blame the source for what the target finds damaged: an archive's frames go on as they lie
    there."""
    try:
        yield
    except answers.Untrue:  # an agent's fault, and it is said whose
        raise
    except Corrupt as error:
        error.host, error.path = source.name, path
        raise


@contextmanager
def _pipe_by_its_name() -> Iterator[None]:
    """Raise what is said of standard input or output as what the user called it."""
    try:
        yield
    except Error as error:
        if error.path == PIPE:
            error.path = "-"
        raise
