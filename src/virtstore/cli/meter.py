"""Progress on standard error: a bar on a terminal, lines elsewhere, JSON lines for programs;
and, whatever is shown, how far it is for whoever asks with a signal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import msgspec

from virtstore.cli import signals
from virtstore.cli.options import Common
from virtstore.progress import Progress, ProgressCallback
from virtstore.text import json_printable, remark
from virtstore.units import format_size

#: Seconds that an operation may take without a bar.
_BRIEF: Final = 0.3
#: To the beginning of a terminal's line, and that emptied (ECMA-48: EL).
_CLEAR: Final = "\r\x1b[K"


@contextmanager
def meter(options: Common) -> Iterator[ProgressCallback]:
    """The callback that a long operation gets, to show its progress."""
    terminal = sys.stderr.isatty() and not options.verbose
    wanted = options.progress
    if wanted is None:
        wanted = terminal or (options.verbose and not options.json)
    if not wanted or (options.quiet and options.progress is None):
        yield _noted(lambda event: None)
    elif options.json:
        yield _noted(_json_line)
    elif terminal:
        with ExitStack() as stack:
            yield _noted(_Terminal(stack).told)
    else:
        yield _noted(_Lines().told)


def _noted(told: ProgressCallback) -> ProgressCallback:
    """The same callback, which also answers a signal that asks how far the operation is. The answer
    names the host's stage."""

    def noted(event: Progress) -> None:
        event = msgspec.structs.replace(event, stage=remark(event.stage))
        signals.how_far = _text(event)
        told(event)

    return noted


def _text(event: Progress) -> str:
    if not event.total:
        return f"{event.operation}: {event.stage}"
    percent = 100 * event.done // event.total
    sizes = f"{format_size(event.done)} of {format_size(event.total)}"
    return f"{event.operation}: {percent} %, {sizes} ({event.stage})"


def _json_line(event: Progress) -> None:
    print(json_printable(msgspec.json.encode(event).decode()), file=sys.stderr, flush=True)


class _Lines:
    """Progress in lines: one a second at the most, and one for each stage and the end."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._said = Progress("", 0, 0)

    def told(self, event: Progress) -> None:
        now = time.monotonic()
        same = event.stage == self._said.stage
        if event == self._said or (same and now - self._last < 1):
            return
        self._last, self._said = now, event
        sys.stderr.write(f"{_text(event)}\n")


class _Terminal:
    """Progress in one line that changes: the stage, and a bar once there is something to measure.
    Until then the line stands still, as it does under a question of ssh's."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._began = time.monotonic()
        self._stage = ""
        self._bar: ProgressCallback | None = None
        stack.callback(self._clear)

    def told(self, event: Progress) -> None:
        if not self._bar and event.total and time.monotonic() - self._began > _BRIEF:
            self._clear()
            self._bar = self._stack.enter_context(_bar())
        if self._bar:
            self._bar(event)
        elif event.stage != self._stage:
            self._stage = event.stage
            sys.stderr.write(f"{_CLEAR}{event.operation}: {event.stage} ")
            sys.stderr.flush()

    def _clear(self) -> None:
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()


@contextmanager
def _bar() -> Iterator[ProgressCallback]:
    # Only now: it takes longer to import than most commands take to run.
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Amount(ProgressColumn):
        """Bytes, of how many, how fast, and how long still: nothing while that is not known."""

        def render(self, task: Task) -> Text:
            return Text(_amount(int(task.completed), task.total, task.speed, task.time_remaining))

    named = TextColumn("{task.description}", markup=False)
    with Bar(named, BarColumn(), Amount(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        stage = ""

        def told(event: Progress) -> None:
            nonlocal stage
            if event.stage != stage:
                stage = event.stage
                said = f"{event.operation}: {stage}"
                bar.reset(task, total=event.total, completed=event.done, description=said)
            bar.update(task, completed=event.done, total=event.total or None)

        yield told


def _amount(done: int, total: float | None, speed: float | None, left: float | None) -> str:
    if not total:
        return ""
    text = f"{format_size(done)} of {format_size(int(total))}"
    if speed and done < total:
        text += f"  {format_size(int(speed))}/s"
    if left and done < total:
        minutes, seconds = divmod(int(left), 60)
        text += f"  {minutes}:{seconds:02} left"
    return text
