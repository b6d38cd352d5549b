"""What an agent does: the table of requests, one handler each.

A handler gets the session's `Agent` and a request, sends the answer, or raises an error
of errors.py, which becomes the answer. Paths go through the policy first; the mechanisms
that a handler calls know nothing of configuration or protocol.

A handler is imported when its request comes: most agents get one request, and starting is
most of what a short one costs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from virtstore import protocol
from virtstore.agent.context import Agent

Handler = Callable[[Agent, Any], None]

#: Module and function of each request's handler.
HANDLERS: Final[dict[type[protocol.Message], str]] = {
    protocol.CreateImage: "images.create",
    protocol.ListImages: "inspect.list_images",
    protocol.GetInfo: "inspect.info",
    protocol.GetStorageInfo: "storage.storage_info",
    protocol.DeleteImage: "images.delete",
    protocol.GrowImage: "lengths.grow",
    protocol.ShrinkImage: "lengths.shrink",
    protocol.GrowFilesystem: "resizing.grow_filesystem",
    protocol.ShrinkFilesystem: "resizing.shrink_filesystem",
    protocol.ResizeImage: "resizing.resize",
    protocol.ResizeMovingSwap: "moving_swap.resize",
    protocol.TakeSnapshot: "images.snapshot",
    protocol.CompressImage: "archives.compress",
    protocol.UncompressImage: "archives.uncompress",
    protocol.VerifyImage: "archives.verify",
    protocol.CleanUp: "images.clean",
    protocol.HashImage: "comparing.hash_image",
    protocol.CopyHere: "copying.copy_here",
    protocol.Send: "copying.send_image",
    protocol.Receive: "copying.receive_image",
}


def handler_of(request: protocol.Message) -> Handler | None:
    """What does `request`; None for a message that is no request."""
    if type(request) not in HANDLERS:
        return None
    module, name = HANDLERS[type(request)].split(".")
    found: Handler = getattr(import_module(f"{__name__}.{module}"), name)
    return found
