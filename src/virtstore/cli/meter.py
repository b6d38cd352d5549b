"""Progress on standard error: a bar on a terminal, lines elsewhere, JSON lines for programs;
and, whatever is shown, how far it is for whoever asks with a signal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Final, NamedTuple

import msgspec

from virtstore.cli import signals
from virtstore.cli.options import Common
from virtstore.cli.terminal import columns, screen_of
from virtstore.progress import Progress, ProgressCallback
from virtstore.text import json_printable, printable, remark
from virtstore.units import format_size

#: Seconds that an operation may take without a bar.
_BRIEF: Final = 0.3
#: To the beginning of a terminal's line, and that emptied (ECMA-48: EL).
_CLEAR: Final = "\r\x1b[K"


@contextmanager
def meter(options: Common, source: str = "") -> Iterator[ProgressCallback]:
    """The callback that a long operation gets, to show its progress. `source`: the location that
    it is about, where a command has several."""
    terminal = _is_terminal(options)
    if not _is_wanted(options, terminal):
        yield _noted(lambda event: None, source)
    elif options.json:
        yield _noted(_json_line, source)
    elif terminal:
        with ExitStack() as stack:
            yield _noted(_Terminal(stack).told, source)
    else:
        yield _noted(_Lines().told, source)


class Meters(NamedTuple):
    """What shows the progress of a command that has several locations. `of` gives the callback for
    one of them. Within `pause` nothing is drawn."""

    of: Callable[[str], AbstractContextManager[ProgressCallback]]
    pause: Callable[[], AbstractContextManager[object]] = nullcontext


@contextmanager
def meters(options: Common, count: int, jobs: int) -> Iterator[Meters]:
    """What shows the progress of a command for `count` locations, `jobs` at a time."""
    terminal = _is_terminal(options)
    if jobs == 1 or options.json or not terminal or not _is_wanted(options, terminal):
        yield Meters(lambda source: meter(options, source if count > 1 else ""))
        return
    from virtstore.cli.bars import Bars

    with Bars(count, _BRIEF) as bars:

        @contextmanager
        def one(source: str) -> Iterator[ProgressCallback]:
            with bars.one(source) as told:
                yield _noted(told, source)

        yield Meters(one, bars.paused)


class HostsMeter(NamedTuple):
    """What shows the progress of a command that asks several hosts at the same time. `of` gives the
    callback for one location. `show` tells for which hosts it waits, of how many, until `clear`."""

    of: Callable[[str], AbstractContextManager[ProgressCallback]]
    show: Callable[[Sequence[str], int], None]
    clear: Callable[[], None]


@contextmanager
def hosts_meter(options: Common, count: int, hosts: int) -> Iterator[HostsMeter]:
    """What shows the progress of a command for `count` locations on so many `hosts`. On a terminal
    it is one line, whatever each of many does."""
    terminal = _is_terminal(options)
    if hosts > 1 and terminal and not options.json and _is_wanted(options, terminal):
        line = _WaitingLine()
        try:
            yield HostsMeter(
                lambda source: nullcontext(_noted(_unseen, source)), line.show, line.clear
            )
        finally:
            line.clear()
    else:
        yield HostsMeter(
            of=lambda source: meter(options, source if count > 1 else ""),
            show=lambda names, of: None,
            clear=lambda: None,
        )


def _unseen(event: Progress) -> None:
    pass


class _WaitingLine:
    """How many hosts have answered, and for which others somebody waits, in one line."""

    def __init__(self) -> None:
        self._from = time.monotonic() + _BRIEF
        self._shown = ""

    def show(self, names: Sequence[str], count: int) -> None:
        """Show it, once the command has taken a moment."""
        if time.monotonic() < self._from:
            return
        text = waiting_text(names, count, screen_of(sys.stderr).width or 80)
        if text != self._shown:
            self._shown = text
            sys.stderr.write(f"{_CLEAR}{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._shown = ""
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def waiting_text(names: Sequence[str], count: int, width: int) -> str:
    """As many names as there is room for in a line, and how many more there are."""
    head = f"{count - len(names)} of {count} hosts have answered; waiting for: "
    shown = list(map(printable, names))
    text = head + ", ".join(shown)
    for number in range(min(len(shown), width) - 1, 0, -1):
        if columns(text) <= width:
            break
        text = f"{head}{', '.join(shown[:number])} and {len(shown) - number} more"
    return text[:width]


def _is_terminal(options: Common) -> bool:
    dumb = os.environ.get("TERM") == "dumb"  # it has no way back to a line's beginning
    return sys.stderr.isatty() and not dumb and not options.verbose


def _is_wanted(options: Common, terminal: bool) -> bool:
    wanted = options.progress
    if wanted is None:
        return not options.quiet and (terminal or (options.verbose and not options.json))
    return wanted


def _noted(told: ProgressCallback, source: str = "") -> ProgressCallback:
    """The same callback, which also answers a signal that asks how far the operation is. The answer
    names the host's stage."""

    def noted(event: Progress) -> None:
        event = msgspec.structs.replace(event, stage=remark(event.stage), source=source)
        signals.tell(source, None if event.stage == "done" else _text(event))
        told(event)

    return noted


def _text(event: Progress) -> str:
    of = f" {printable(event.source)}" if event.source else ""
    if not event.total:
        return f"{event.operation}{of}: {event.stage}"
    percent = 100 * event.done // event.total
    sizes = f"{format_size(event.done)} of {format_size(event.total)}"
    return f"{event.operation}{of}: {percent} %, {sizes} ({event.stage})"


def _json_line(event: Progress) -> None:
    told = msgspec.to_builtins(event)
    if not event.source:
        del told["source"]
    line = json_printable(msgspec.json.encode(told).decode())
    sys.stderr.write(f"{line}\n")  # at once: another thread may have one, too
    sys.stderr.flush()


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
            from virtstore.cli.bars import bar

            self._bar = self._stack.enter_context(bar())
        if self._bar:
            self._bar(event)
        elif event.stage != self._stage:
            self._stage = event.stage
            sys.stderr.write(f"{_CLEAR}{event.operation}: {event.stage} ")
            sys.stderr.flush()

    def _clear(self) -> None:
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()
