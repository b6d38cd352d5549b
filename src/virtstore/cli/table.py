"""Tables: columns that line up, numbers to the right, and paths that fit the terminal.

In what is no terminal nothing is left out or shortened. On one that is too narrow, times lose
their hour first; then the column of times goes; then paths lose their middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from virtstore.cli.terminal import Screen, Style, columns, shortened
from virtstore.text import printable

_GAP: Final = "  "
#: Columns that a path has, before the times go; and however narrow the terminal is.
_ROOM_FOR_A_PATH: Final = 28
_LEAST: Final = 12
#: Of `2026-11-28 14:02`.
_DATE: Final = 10


class Column(NamedTuple):
    title: str
    kind: Literal["words", "number", "path", "time"] = "words"


class Cell(NamedTuple):
    text: str
    style: Style = "plain"


Row = Sequence[Cell]


def table(heads: Sequence[Column], rows: Sequence[Row], screen: Screen) -> list[str]:
    """The lines of a table, titles first."""
    rows = [[Cell(printable(cell.text), cell.style) for cell in row] for row in rows]
    heads, rows = _fitted(heads, rows, screen.width)
    widths = _widths(heads, rows)
    titles = [Cell(head.title) for head in heads]
    return [_line(row, heads, widths, screen) for row in (titles, *rows)]


def _line(row: Row, heads: Sequence[Column], widths: Sequence[int], screen: Screen) -> str:
    shown = []
    for cell, head, width in zip(row, heads, widths, strict=True):
        space = " " * (width - columns(cell.text))
        text = screen.shown(cell.text, cell.style)
        shown.append(space + text if head.kind == "number" else text + space)
    return _GAP.join(shown).rstrip()


def _widths(heads: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max([columns(head.title), *(columns(row[at].text) for row in rows)])
        for at, head in enumerate(heads)
    ]


def _fitted(
    heads: Sequence[Column], rows: Sequence[Row], width: int | None
) -> tuple[Sequence[Column], Sequence[Row]]:
    """The same table, made as narrow as the terminal, as far as that goes."""
    if width is None or _missing(heads, rows, width) <= 0:
        return heads, rows
    heads, rows = _dated(heads, rows)
    longest = _width_of("path", heads, rows)
    if longest - _missing(heads, rows, width) < min(longest, _ROOM_FOR_A_PATH):
        kept = [at for at, head in enumerate(heads) if head.kind != "time"]
        heads = [heads[at] for at in kept]
        rows = [[row[at] for at in kept] for row in rows]
    room = max(longest - max(_missing(heads, rows, width), 0), _LEAST)
    return heads, [_shortened(heads, row, room) for row in rows]


def _missing(heads: Sequence[Column], rows: Sequence[Row], width: int) -> int:
    """How many columns the table is wider than the terminal."""
    return sum(_widths(heads, rows)) + len(_GAP) * (len(heads) - 1) - width


def _width_of(kind: str, heads: Sequence[Column], rows: Sequence[Row]) -> int:
    widths = zip(heads, _widths(heads, rows), strict=True)
    return max((width for head, width in widths if head.kind == kind), default=0)


def _dated(heads: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """The same with dates in place of times, below a title without a zone."""
    dated = [head.kind == "time" for head in heads]
    titles = [
        h._replace(title=h.title.split()[0]) if d else h for h, d in zip(heads, dated, strict=True)
    ]
    return titles, [
        [c._replace(text=c.text[:_DATE]) if d else c for c, d in zip(row, dated, strict=True)]
        for row in rows
    ]


def _shortened(heads: Sequence[Column], row: Row, room: int) -> Row:
    """The row with paths of `room` columns at the most."""
    cells = zip(heads, row, strict=True)
    return [c._replace(text=shortened(c.text, room)) if h.kind == "path" else c for h, c in cells]
