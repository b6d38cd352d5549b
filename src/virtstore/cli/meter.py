"""Progress on standard error: a bar on a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from virtstore.cli.options import Common
from virtstore.progress import Progress, ProgressCallback
from virtstore.units import format_size


@contextmanager
def meter(options: Common) -> Iterator[ProgressCallback | None]:
    """What a long operation is to call, or None where nobody wants to see it."""
    terminal = sys.stderr.isatty()
    wanted = options.progress if options.progress is not None else terminal
    if not wanted or (options.quiet and options.progress is None):
        yield None
    elif options.json:
        yield _json_line
    elif terminal:
        with _bar() as told:
            yield told
    else:
        yield _Lines().told


def _json_line(event: Progress) -> None:
    print(msgspec.json.encode(event).decode(), file=sys.stderr, flush=True)


class _Lines:
    """At most a line a second, and the last one always."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def told(self, event: Progress) -> None:
        now = time.monotonic()
        if now - self._last < 1 and event.done < event.total:
            return
        self._last = now
        percent = 100 * event.done // max(event.total, 1)
        sizes = f"{format_size(event.done)} of {format_size(event.total)}"
        print(f"{event.operation}: {percent} %, {sizes}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[ProgressCallback]:
    # Only now: it takes longer to import than most commands take to run.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)

        def told(event: Progress) -> None:
            bar.update(task, description=event.operation, completed=event.done, total=event.total)

        yield told
