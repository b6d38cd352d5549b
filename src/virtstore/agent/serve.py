"""A session from hello to hang-up: each request is done, and answered once, in order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from virtstore.agent import signals
from virtstore.agent.context import Agent
from virtstore.agent.operations import handler_of
from virtstore.agent.policy import Policy
from virtstore.agent.session import Session
from virtstore.errors import Error, Interrupted, from_os_error
from virtstore.protocol import PREAMBLE, PROTOCOL, Failure, Hello, Message
from virtstore.version import __version__

log: Final = logging.getLogger("virtstore.agent")


def serve(
    load: Callable[[], Policy], reading: int, writing: int, signalled: int | None = None
) -> None:
    """Serve one client until it hangs up. `load` is called when a request first needs the
    policy, so that a wrong configuration is an answer and no broken connection. `signalled`:
    where signals are taken from."""
    session = Session(reading, writing)
    if signalled is not None:
        signals.heed(signalled, session)
    os.write(writing, PREAMBLE)
    session.channel.send(Hello(__version__, PROTOCOL))
    hello = session.channel.receive()
    if hello is None or not isinstance(hello[0], Hello):
        return
    if hello[0].protocol != PROTOCOL:
        log.error(
            "this agent (virtstore %s) speaks protocol %d, the client (virtstore %s) %d",
            __version__,
            PROTOCOL,
            hello[0].version,
            hello[0].protocol,
        )
        return
    session.tells_stages = hello[0].stages
    if hello[0].verbose:
        logging.getLogger().setLevel(logging.DEBUG)
    session.start()
    agent = Agent(load, session)
    while (frame := session.next()) is not None:
        _answer(agent, frame[0])


def _answer(agent: Agent, request: Message) -> None:
    handler = handler_of(request)
    if handler is None:
        # What was still under way when an operation failed: its frames are of no use now.
        return
    agent.session.begin()
    agent.take_answer()  # of a handler that failed after it had answered
    log.debug("%s", request)
    try:
        handler(agent, request)
        if answer := agent.take_answer():
            agent.session.send(answer)
    except Interrupted:
        return
    except Error as error:
        _fail(agent, Failure(error.code, error.message, error.path or _path(request)))
    except OSError as error:
        log.info("%s", error, exc_info=True)
        told = from_os_error(error, path=_path(request))
        _fail(agent, Failure(told.code, told.message, told.path))
    except Exception as error:
        log.exception("a defect in virtstore")
        text = f"a defect in virtstore: {type(error).__name__}: {error}; please report it"
        _fail(agent, Failure("failed", text, _path(request)))


def _fail(agent: Agent, failure: Failure) -> None:
    try:
        agent.session.send(failure)
    except Interrupted:
        log.info("the client went away before it could be told: %s", failure.message)


def _path(request: Message) -> str | None:
    for field in ("path", "target"):
        if path := getattr(request, field, None):
            return str(path)
    return None
