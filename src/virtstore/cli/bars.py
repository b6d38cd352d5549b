"""Bars on a terminal: one for an operation, or one for each of those that run at the same time and
one for all. It is imported only where there is something to draw: that takes longer than most
commands take to run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from virtstore.progress import Progress, ProgressCallback
from virtstore.text import printable
from virtstore.units import format_size

#: Columns of a line besides its name, where several are drawn.
_BESIDE_NAME: Final = 56
_SHORTEST_NAME: Final = 16
_NARROW_BAR: Final = 10
#: Letters of the longest word for a stage.
_STAGE: Final = 11


@contextmanager
def bar() -> Iterator[ProgressCallback]:
    """One bar; it is gone in the end."""
    with _drawn(BarColumn()) as drawn:
        task = drawn.add_task("", total=None)
        stage = ""

        def told(event: Progress) -> None:
            nonlocal stage
            if event.stage != stage:
                stage = event.stage
                said = f"{event.operation}: {stage}"
                drawn.reset(task, total=event.total, completed=event.done, description=said)
            drawn.update(task, completed=event.done, total=event.total or None)

        yield told


class Bars:
    """A line for each operation that runs, and above them one for all `count` of them. Nothing is
    drawn in the first `brief` seconds, and until there is something to measure."""

    def __init__(self, count: int, brief: float) -> None:
        self._drawn = _drawn(BarColumn(_NARROW_BAR))
        self._count = count
        self._from = time.monotonic() + brief
        self._lock = threading.Lock()
        self._all = self._drawn.add_task("", total=count, counts=True)
        self._running: dict[str, Progress] = {}
        self._tasks: dict[str, TaskID] = {}
        self._ended = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._drawn.stop()

    @contextmanager
    def one(self, source: str) -> Iterator[ProgressCallback]:
        """The line of one operation, while it runs."""

        def told(event: Progress) -> None:
            with self._lock:
                self._running[source] = event
                self._draw(source, event)

        try:
            yield told
        finally:
            with self._lock:
                self._end(source)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the lines away while something else is printed."""
        with self._lock:
            drawn = self._drawn.live.is_started
            self._drawn.stop()
            try:
                yield
            finally:
                if drawn and self._running:
                    self._drawn.start()

    def _draw(self, source: str, event: Progress) -> None:
        if source not in self._tasks:
            self._tasks[source] = self._drawn.add_task("", total=None)
        task, said = self._tasks[source], f"{self._name(source)}  {event.stage:<{_STAGE}}"
        if self._drawn.tasks[self._drawn.task_ids.index(task)].description != said:
            self._drawn.reset(task, total=event.total, completed=event.done, description=said)
        self._drawn.update(task, completed=event.done, total=event.total or None)
        self._draw_all(event.operation)
        if event.total and time.monotonic() >= self._from:
            self._drawn.start()  # once

    def _draw_all(self, operation: str) -> None:
        parts = sum(each.done / each.total for each in self._running.values() if each.total)
        said = f"{operation}: {self._ended} of {self._count} done"
        self._drawn.update(self._all, completed=self._ended + parts, description=said)

    def _end(self, source: str) -> None:
        self._ended += 1
        if event := self._running.pop(source, None):
            self._draw_all(event.operation)
        if (task := self._tasks.pop(source, None)) is not None:
            self._drawn.remove_task(task)

    def _name(self, source: str) -> str:
        """A location, cut at its beginning where the terminal has no room for it."""
        room = max(self._drawn.console.width - _BESIDE_NAME, _SHORTEST_NAME)
        text = printable(source)
        return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"


class _Amount(ProgressColumn):
    """Bytes, of how many, how fast, and how long still: nothing while that is not known. Of a line
    for several operations, nothing."""

    def render(self, task: Task) -> Text:
        if task.fields.get("counts"):
            return Text("")
        return Text(_amount(int(task.completed), task.total, task.speed, task.time_remaining))


def _drawn(column: BarColumn) -> Bar:
    """What draws lines on standard error, and leaves standard output alone."""
    whole = Column(no_wrap=True)  # the bar gets narrower, and no text goes on in a second line
    named = TextColumn("{task.description}", markup=False, table_column=whole)
    return Bar(
        named,
        column,
        _Amount(table_column=whole),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


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
