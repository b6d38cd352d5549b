"""What a long operation tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """One event: `done` of `total` bytes of the image are dealt with.

    `done` counts image bytes, holes and equal blocks included, so it only ever
    rises and ends at `total`. `operation` is the verb (`"copy"`, `"verify"`, …).
    """

    operation: str
    done: int
    total: int


#: Receives each event, in the thread that runs the operation.
ProgressCallback = Callable[[Progress], None]
