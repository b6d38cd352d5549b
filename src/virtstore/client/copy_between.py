"""A copy between two hosts: the client passes frames from the source to the target.

It looks at headers only: what is compressed stays so. The other way go the fingerprints
of what the target has already. Each end is a session of its own, so that a copy that fails
or is interrupted ends by closing it; what that leaves is the agents' business.

Neither end is believed what the other, or it itself, has contradicted, and neither is waited for
once the other has failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from virtstore.client.answers import (
    check_digest,
    check_target,
    out_of_order,
    refuse_absurd,
    require,
)
from virtstore.client.connection import Connection
from virtstore.digest import CHUNK, FINGERPRINT_SIZE
from virtstore.errors import ConnectionFailed, Error
from virtstore.protocol import (
    SILENCE,
    Abandon,
    Begin,
    Closed,
    Data,
    End,
    Existing,
    Message,
    Patch,
    Published,
    Ready,
    Receive,
    Received,
    Same,
    Send,
    Start,
    Zero,
)

#: Bytes that an archive may have beside twice those of its image.
_ARCHIVE_ITSELF: Final = 1 << 20


def relay(
    source: Connection,
    send: Send,
    target: Connection,
    receive: Callable[[Begin], Receive],
    told: Callable[[int, int], None],
) -> Received:
    """Run a whole copy and return the target's account of it. `receive` makes the request
    to the target once the source has said what it has; `told` gets bytes done and size. Raises
    `Corrupt` where an end says what cannot be true."""
    source.send(send)
    begin = _expect(source, Begin)  # of its path no use is made
    request = receive(begin)
    target.send(request)
    ready = _expect(target, Ready)
    check_target(ready.path, request.path, target.name)
    if request.dry_run:
        return Received(ready.path, begin.size, 0, "", begin.warnings)
    keeps = send.options.keep_snapshot
    # What is overwritten in place is lost: an archive that is damaged shall change nothing.
    check = ready.in_place and not send.contents
    source.send(Start(ready.compare, check, base=ready.base if keeps else ""))
    back = _Back(source, target, -(-begin.size // CHUNK) if ready.compare else 0)
    back.start()
    try:
        end = _pass_on(source, target, begin.size, told, back)
    except Error as error:
        # Whatever broke on the way here: what the target says of it comes first.
        back.join(0.5)
        if back.failure:
            raise back.failure from None
        if error.host == source.name and not isinstance(error, ConnectionFailed):
            target.send(Abandon())
            back.join(SILENCE)
        raise
    back.join()
    if back.failure:
        raise back.failure
    assert back.received is not None
    _check_received(back.received, request, begin, ready, end.digest, target.name)
    unkept = _keep(source) if keeps else ()
    told_of = (*begin.warnings, *back.received.warnings, *unkept)
    return msgspec.structs.replace(back.received, warnings=told_of, read=end.read)


def _keep(source: Connection) -> tuple[str, ...]:
    """Have the source keep its snapshot. Returns why that failed: the copy itself is whole."""
    try:
        source.send(Published())
        return _expect(source, Closed).warnings
    except Error as error:
        why = f"{source.name}: {error.message}"
        return (f"its snapshot was not kept, so the next one may read all of it: {why}",)


def ask_beforehand(target: Connection, request: Receive) -> None:
    """Raises what the target refuses of a copy, by a dry run of it."""
    target.send(request)
    _expect(target, Ready)


def _check_received(
    received: Received, request: Receive, begin: Begin, ready: Ready, digest: str, host: str
) -> None:
    """Raises `Untrue` unless the target has what the source had, where it said that it would."""
    require(received.path == ready.path, f"{ready.path} became {received.path}", host)
    require(received.size == begin.size, f"{begin.size} bytes became {received.size}", host)
    require(received.digest == digest, f"digest {digest} became {received.digest}", host)
    most = 2 * begin.size + _ARCHIVE_ITSELF if request.options.archive else begin.size
    require(received.written <= most, f"it wrote {received.written} bytes", host)


def _pass_on(
    source: Connection,
    target: Connection,
    size: int,
    told: Callable[[int, int], None],
    back: _Back,
) -> End:
    """Pass on all frames of the source, for an image of `size` bytes, with the last of them,
    which is returned."""
    target.owed = False  # it waits for the source
    position = 0
    while True:
        message, payload = source.receive()
        if back.failure:
            continue  # what is still under way; `back` sees to it that this ends
        match message:
            case Data() | Patch() | Zero() | Same():
                fits = message.offset == position and 0 < message.length <= size - position
                at = f"{message.length} bytes of {size} at {message.offset} follow {position}"
                require(fits, at, source.name)
                position += message.length
                target.send(message, payload)
                told(position, size)
            case End(digest, read):
                require(position == size, f"{position} of {size} bytes are all", source.name)
                check_digest(digest, source.name)
                require((read or 0) <= size, f"it read {read} of {size} bytes", source.name)
                back.ended = True
                target.send(message)
                target.owed = True
                return message
            case _:
                raise out_of_order(message, source.name)


class _Back(threading.Thread):
    """Takes what comes back from the target: fingerprints of at most `chunks` chunks, for the
    source, and the outcome. `ended`: the target has been told everything."""

    def __init__(self, source: Connection, target: Connection, chunks: int) -> None:
        super().__init__(name="copy, back", daemon=True)
        self._source = source
        self._target = target
        self._chunks = chunks
        self.ended = False
        self.received: Received | None = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.received = self._until_received()
        except BaseException as error:
            self.failure = error
            # Neither need go on; `_pass_on` sees it, whichever of them it waits for.
            self._source.end()
            self._target.end()

    def _until_received(self) -> Received:
        name = self._target.name
        while True:
            message, payload = self._target.receive()
            match message:
                case Existing(zeros):
                    refuse_absurd(message, name)
                    count, odd = divmod(len(payload), FINGERPRINT_SIZE)
                    self._chunks -= zeros + count
                    fits = not odd and self._chunks >= 0
                    require(fits, "it has more chunks than the image", name)
                    self._source.send(message, payload)
                case Received():
                    refuse_absurd(message, name)
                    require(self.ended, "it has all before it was all sent", name)
                    return message
                case _:
                    raise out_of_order(message, name)


Expected = TypeVar("Expected", bound=Message)


def _expect(connection: Connection, kind: type[Expected]) -> Expected:
    message, _ = connection.receive()
    if not isinstance(message, kind):
        raise out_of_order(message, connection.name)
    refuse_absurd(message, connection.name)
    return message
