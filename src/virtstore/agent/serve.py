"""A session from hello to hang-up: each request is done, and answered once, in order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from virtstore.agent import journal, signals
from virtstore.agent.context import Agent
from virtstore.agent.operations import Handler, handler_of
from virtstore.agent.policy import Policy
from virtstore.agent.session import Session
from virtstore.agent.status import Status
from virtstore.errors import Error, Interrupted, from_os_error
from virtstore.protocol import (
    OLDEST,
    ORIGINS,
    PREAMBLE,
    PROTOCOL,
    STAGES,
    Ask,
    Failure,
    Hello,
    Message,
    Unknown,
)
from virtstore.requests import check_fields
from virtstore.version import __version__

log: Final = logging.getLogger("virtstore.agent")


def serve(
    load: Callable[[], Policy],
    reading: int,
    writing: int,
    signalled: int | None = None,
    find: Callable[[type[Ask[Any]]], Handler] | None = None,
) -> None:
    """Serve one client until it hangs up. `load` is called when a request first needs the
    policy, so that a wrong configuration is an answer and no broken connection. `signalled`:
    where signals are taken from. `find` gives what does requests of a type, if not `handler_of`."""
    session = Session(reading, writing)
    if signalled is not None:
        signals.heed(signalled, session)
    os.write(writing, PREAMBLE)
    own_name = os.uname().nodename
    session.channel.send(Hello(__version__, PROTOCOL, OLDEST, features=(ORIGINS,), host=own_name))
    hello = session.channel.receive()
    if hello is None or not isinstance(hello[0], Hello):
        return
    if not hello[0].understood:
        log.error(
            "this agent (virtstore %s) speaks protocol %d, the client (virtstore %s) %d",
            __version__,
            PROTOCOL,
            hello[0].version,
            hello[0].protocol,
        )
        return
    session.client = hello[0].version
    session.tells_stages = STAGES in hello[0].features
    if hello[0].verbose:
        logging.getLogger().setLevel(logging.DEBUG)
    agent, status = Agent(load, session), Status(session)
    session.now_and_then = status.write
    try:
        session.start()
        while (frame := session.next()) is not None:
            _answer(agent, frame[0], status, find)
    except RuntimeError as error:  # no thread can be started
        session.broken = error
    if session.broken:
        _fail(agent, _told(session.broken, None))


def _answer(
    agent: Agent,
    request: Message,
    status: Status,
    find: Callable[[type[Ask[Any]]], Handler] | None = None,
) -> None:
    if isinstance(request, Unknown):
        _fail(agent, _told(agent.session.unsupported(request), None))
        return
    if not isinstance(request, Ask):
        # What was still under way when an operation failed: its frames are of no use now.
        return
    agent.session.begin()
    log.debug("%s", request)
    entry = journal.Entry(request, time.monotonic())
    try:
        check_fields(request)
        with status.of(request):
            answer: Message | None = (find or handler_of)(type(request))(agent, request)
        entry.written = getattr(answer, "written", None)
    except Interrupted as error:
        entry.code, answer = error.code, None
    except BaseException as error:  # of whatever thread
        answer = _told(error, _path(request))
        entry.code = answer.code
    # Before the client has its answer: it may end this process then.
    if entry.is_due:
        journal.write(entry, agent.log)
    if isinstance(answer, Failure):
        _fail(agent, answer)
    elif answer is not None:
        with suppress(Interrupted):
            agent.session.send(answer)


def _told(error: BaseException, path: str | None) -> Failure:
    """What a client is told of it."""
    match error:
        case Error():
            return Failure(error.code, error.message, error.path or path)
        case OSError():
            log.info("%s", error, exc_info=error)
            told = from_os_error(error, path=path)
            return Failure(told.code, told.message, told.path)
        case MemoryError():
            text = "this host has not enough free memory for it; try again when it has more"
        case RuntimeError() if "start new thread" in str(error):
            text = (
                "this host lets the agent start no more threads; raise its limit of processes"
                " there (ulimit -u, TasksMax), or try again when less is running"
            )
        case _:
            log.error("a defect in virtstore", exc_info=error)
            text = f"a defect in virtstore: {type(error).__name__}: {error}; please report it"
    return Failure("failed", text, path)


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
