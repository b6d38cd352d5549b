"""A copy between two hosts: the client passes frames from the source to the target.

It looks at headers only: what is compressed stays so. The other way go the fingerprints
of what the target has already. Each end is a session of its own, so that a copy that fails
or is interrupted ends by closing it; what that leaves is the agents' business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from virtstore.connection import Connection
from virtstore.errors import ConnectionFailed, Error
from virtstore.protocol import (
    Abandon,
    AnyMessage,
    Begin,
    Data,
    End,
    Existing,
    Message,
    Patch,
    Ready,
    Receive,
    Received,
    Same,
    Send,
    Start,
    Zero,
)


def relay(
    source: Connection,
    send: Send,
    target: Connection,
    receive: Callable[[Begin], Receive],
    told: Callable[[int, int], None],
) -> Received:
    """Run a whole copy and return the target's account of it. `receive` makes the request
    to the target once the source has said what it has; `told` gets bytes done and size."""
    source.send(send)
    begin = _expect(source, Begin)
    request = receive(begin)
    target.send(request)
    ready = _expect(target, Ready)
    if request.dry_run:
        return Received(ready.path, begin.size, 0, "")
    source.send(Start(ready.compare))
    back = _Back(source, target)
    back.start()
    try:
        _pass_on(source, target, begin.size, told)
    except Error as error:
        # Whatever broke on the way here: what the target says of it comes first.
        back.join(0.5)
        if back.failure:
            raise back.failure from None
        if error.host == source.name and not isinstance(error, ConnectionFailed):
            target.send(Abandon())
            back.join()
        raise
    back.join()
    if back.failure:
        raise back.failure
    assert back.received is not None
    return back.received


def _pass_on(
    source: Connection, target: Connection, size: int, told: Callable[[int, int], None]
) -> None:
    while True:
        message, payload = source.receive()
        match message:
            case Data() | Patch() | Zero() | Same():
                target.send(message, payload)
                told(message.offset + message.length, size)
            case End():
                target.send(message)
                return
            case _:
                raise _out_of_order(source, message)


class _Back(threading.Thread):
    """What comes back from the target: fingerprints for the source, and the outcome."""

    def __init__(self, source: Connection, target: Connection) -> None:
        super().__init__(name="copy, back", daemon=True)
        self._source = source
        self._target = target
        self.received: Received | None = None
        self.failure: Error | None = None

    def run(self) -> None:
        try:
            self.received = self._until_received()
        except Error as error:
            self.failure = error
            self._source.channel.close()  # it need not go on; `_pass_on` sees it end

    def _until_received(self) -> Received:
        while True:
            message, payload = self._target.receive()
            match message:
                case Existing():
                    self._source.send(message, payload)
                case Received():
                    return message
                case _:
                    raise _out_of_order(self._target, message)


Expected = TypeVar("Expected", bound=Message)


def _expect(connection: Connection, kind: type[Expected]) -> Expected:
    message, _ = connection.receive()
    if not isinstance(message, kind):
        raise _out_of_order(connection, message)
    return message


def _out_of_order(connection: Connection, message: AnyMessage) -> ConnectionFailed:
    return ConnectionFailed(
        f"a {type(message).__name__} came where it makes no sense", host=connection.name
    )
