"""Standard input and output as the source and the target of a copy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from virtstore.cli.options import Common
from virtstore.client.api import Image
from virtstore.client.pipe import piped
from virtstore.errors import UsageError
from virtstore.location import LOCAL, PIPE, Location

#: What `-` is among locations.
PIPED: Final = Location(LOCAL, PIPE)


class Streams:
    """`source`: standard input, if a copy reads it; `target`: standard output, if it writes there.
    From then on whatever else is printed goes to standard error. Raises `UsageError`."""

    def __init__(self, sources: Sequence[Location], target: Location, options: Common) -> None:
        self.source: Image | None = None
        self.target: Image | None = None
        if PIPED not in (*sources, target):
            return
        if len(sources) > 1 or (PIPED in sources and target == PIPED):
            raise UsageError(
                "- is standard input or output: it stands for one source, or for the target of one"
                " source, and the other of the two is an image"
            )
        if target == PIPED:
            self.target = piped(_output(), verbose=options.verbose)
        else:
            self.source = piped(_input(), verbose=options.verbose)


def _input() -> int:
    if os.isatty(0):
        raise UsageError("-: standard input is a terminal; pipe an image or an archive into it")
    return os.dup(0)


def _output() -> int:
    """Standard output, kept for the image alone."""
    if os.isatty(1):
        raise UsageError(
            "-: standard output is a terminal, which an image is not for; pipe it into a program or"
            " a file"
        )
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept
