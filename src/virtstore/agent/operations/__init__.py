"""What an agent does: a handler for each request, which the request names.

A handler gets the session's `Agent` and a request, and returns the answer, or raises an error
of errors.py, which becomes the answer. It is sent when the handler has given everything back, its
locks too, so that whoever gets it finds the image free.

Paths go through the policy first; the mechanisms that a handler calls know nothing of
configuration or protocol.

A handler is imported when its request comes: most agents get one request, and starting is
most of what a short one costs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from virtstore.agent.context import Agent
from virtstore.protocol import Ask, Message

#: What does a request, and gives its answer.
Handler = Callable[[Agent, Any], Message]


def handler_of(kind: type[Ask[Any]]) -> Handler:
    """What does requests of this type."""
    module, name = kind.handler.split(".")
    found: Handler
    found = getattr(import_module(f"{__name__}.{module}"), name)
    return found
