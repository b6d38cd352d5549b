"""What an agent does: the table of requests, one handler each.

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
from typing import Any, Final

from virtstore import protocol
from virtstore.agent.context import Agent
from virtstore.protocol import Answer, Ask

#: Module and function of each request's handler.
HANDLERS: Final[dict[type[Ask[Any]], str]] = {
    protocol.CreateImage: "images.create",
    protocol.ListImages: "inspect.list_images",
    protocol.GetInfo: "inspect.info",
    protocol.GetStorageInfo: "storage.storage_info",
    protocol.DeleteImage: "images.delete",
    protocol.GrowImage: "lengths.grow",
    protocol.ShrinkImage: "lengths.shrink",
    protocol.GrowFilesystem: "resizing.grow_filesystem",
    protocol.ShrinkFilesystem: "resizing.shrink_filesystem",
    protocol.ResizeImage: "moving_swap.resize",
    protocol.TakeSnapshot: "images.snapshot",
    protocol.CompressImage: "archives.compress",
    protocol.UncompressImage: "archives.uncompress",
    protocol.VerifyImage: "archives.verify",
    protocol.CleanUp: "images.clean",
    protocol.HashImage: "copying.hash_image",
    protocol.CopyHere: "copying.copy_here",
    protocol.Send: "copying.send_image",
    protocol.Receive: "copying.receive_image",
}


def handler_of(kind: type[Ask[Answer]]) -> Callable[[Agent, Ask[Answer]], Answer]:
    """What does requests of this type."""
    module, name = HANDLERS[kind].split(".")
    found: Callable[[Agent, Ask[Answer]], Answer]
    found = getattr(import_module(f"{__name__}.{module}"), name)
    return found
