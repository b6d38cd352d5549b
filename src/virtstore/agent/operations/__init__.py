"""What an agent does: the table of requests, one handler each.

A handler gets the session's `Agent` and a request, sends the answer, or raises an error
of errors.py, which becomes the answer. Paths go through the policy first; the mechanisms
that a handler calls know nothing of configuration or protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from virtstore import protocol
from virtstore.agent.context import Agent
from virtstore.agent.operations import archives, comparing, copying, images, inspect, resizing

HANDLERS: Final[dict[type[protocol.Message], Callable[[Agent, Any], None]]] = {
    protocol.CreateImage: images.create,
    protocol.ListImages: inspect.list_images,
    protocol.GetInfo: inspect.info,
    protocol.GetStorageInfo: inspect.storage_info,
    protocol.DeleteImage: images.delete,
    protocol.GrowImage: images.grow,
    protocol.ShrinkImage: images.shrink,
    protocol.GrowFilesystem: resizing.grow_filesystem,
    protocol.ShrinkFilesystem: resizing.shrink_filesystem,
    protocol.ResizeImage: resizing.resize,
    protocol.TakeSnapshot: images.snapshot,
    protocol.CompressImage: archives.compress,
    protocol.UncompressImage: archives.uncompress,
    protocol.VerifyImage: archives.verify,
    protocol.CleanUp: images.clean,
    protocol.HashImage: comparing.hash_image,
    protocol.CopyHere: copying.copy_here,
    protocol.Send: copying.send_image,
    protocol.Receive: copying.receive_image,
}
