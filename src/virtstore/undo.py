"""Changes that are undone where they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from virtstore.errors import Error, LeftRunning

log: Final = logging.getLogger("virtstore.agent")


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` where the block ends in an error, and raise that error: never in `LeftRunning`,
    as the tool that still runs may need what was changed. Where `undo` fails, too, the error says
    so."""
    try:
        yield
    except LeftRunning:
        raise
    except BaseException as error:
        try:
            undo()
        except (Error, OSError) as failed:
            log.warning("after %r, undoing what was done failed: %s", error, failed)
            if isinstance(error, Error):
                error.message += f"; putting things back failed, too: {failed}"
        raise
