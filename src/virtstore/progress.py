"""What a long operation tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

#: What an operation is at; each has those that it needs, in this order. `waiting`: for others who
#: have the image for a moment (udev). `reading`: until standard input has ended, or
#: nobody reads an export any more. `checking`:
#: whether it can be done, and by tools, whether contents are whole. `flushing`: what was made is
#: checked and brought to the disk, and gets its name. `done`: the operation has ended well.
Stage = Literal[
    "connecting",
    "waiting",
    "reading",
    "checking",
    "snapshot",
    "allocating",
    "copying",
    "comparing",
    "verifying",
    "compressing",
    "uncompressing",
    "resizing",
    "zeroing",
    "removing",
    "flushing",
    "done",
]


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """One event: `done` of `total` bytes of the image are dealt with.

    `done` counts image bytes, holes and equal blocks included, so within a stage it only ever
    rises (in `resizing`, for each of the tools that do it in turn), and the last event has it at
    `total`. Both are 0 as long as that is not known.
    `operation` is the verb (`"copy"`, `"verify"`, …), `stage` what it is at. `source` is the
    location that it is about, where a command has several; JSON has it only there.
    """

    operation: str
    done: int
    total: int
    stage: Stage = "done"
    source: str = ""


#: Receives each event, in the thread that runs the operation.
ProgressCallback = Callable[[Progress], None]
