"""Each request has its handler, which returns what the request is answered with."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from virtstore import protocol
from virtstore.agent.operations import handler_of
from virtstore.protocol import Request, answers_of

REQUESTS: list[type[Request]] = list(get_args(protocol.Requests))


def test_every_request_is_one_that_may_arrive() -> None:
    assert set(REQUESTS) == set(protocol.Ask.__subclasses__())


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_a_handler_returns_the_answer_of_its_request(kind: type[Request]) -> None:
    hints = get_type_hints(handler_of(kind))
    answer = hints.pop("return")
    assert (get_args(answer) or (answer,)) == answers_of(kind)
    assert hints["request"] is kind
