"""Tables: columns that line up, numbers to the right, and paths that fit the terminal.

In what is no terminal nothing is left out or shortened. On one that is too narrow, times lose
their hour first; then the column of times goes, and that of users; then paths lose their middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from virtstore.cli.terminal import Screen, Style, columns, shortened
from virtstore.text import printable

_GAP: Final = "  "
Kind = Literal["words", "number", "path", "time", "user"]
#: Which columns go, in this order, where a path would have less room than so much.
_SPARE: Final[dict[Kind, int]] = {"time": 28, "user": 16}
#: The room of a path, however narrow the terminal is.
_LEAST: Final = 12
#: Of `2026-11-28 14:02`.
_DATE: Final = 10


class Column(NamedTuple):
    title: str
    kind: Kind = "words"


class Cell(NamedTuple):
    text: str
    style: Style = "plain"


Row = Sequence[Cell]


def table(
    heads: Sequence[Column], rows: Sequence[Row], screen: Screen, *, keep: Kind | None = None
) -> list[str]:
    """The lines of a table, titles first. `keep`: the columns that stay, however narrow it is."""
    shown = _Table(heads, [[_printable(cell) for cell in row] for row in rows])
    if screen.width is not None:
        shown = _fitted(shown, screen.width, keep)
    widths = shown.widths()
    titles = [Cell(head.title) for head in shown.heads]
    return [_line(row, shown.heads, widths, screen) for row in (titles, *shown.rows)]


def _printable(cell: Cell) -> Cell:
    return cell if cell.text.isprintable() else Cell(printable(cell.text), cell.style)


def _line(row: Row, heads: Sequence[Column], widths: Sequence[int], screen: Screen) -> str:
    shown = []
    for cell, head, width in zip(row, heads, widths, strict=True):
        space = " " * (width - columns(cell.text))
        text = cell.text if cell.style == "plain" else screen.shown(cell.text, cell.style)
        shown.append(space + text if head.kind == "number" else text + space)
    return _GAP.join(shown).rstrip()


class _Table(NamedTuple):
    heads: Sequence[Column]
    rows: Sequence[Row]

    def widths(self) -> list[int]:
        """The columns of the terminal that each column takes."""
        return [
            max([columns(head.title), *[columns(row[at].text) for row in self.rows]])
            for at, head in enumerate(self.heads)
        ]

    def dated(self) -> _Table:
        """The same with dates in place of times, below a title without a zone."""
        times = [head.kind == "time" for head in self.heads]
        if not any(times):
            return self
        heads = [
            head._replace(title=head.title.split()[0]) if time else head
            for head, time in zip(self.heads, times, strict=True)
        ]
        return _Table(heads, [_each(row, times, lambda text: text[:_DATE]) for row in self.rows])

    def without(self, kind: Kind) -> _Table:
        """The same without the columns of that kind."""
        kept = [at for at, head in enumerate(self.heads) if head.kind != kind]
        return _Table(
            [self.heads[at] for at in kept], [[row[at] for at in kept] for row in self.rows]
        )

    def shortened(self, room: int) -> _Table:
        """The same with paths of `room` columns at the most."""
        paths = [head.kind == "path" for head in self.heads]
        rows = [_each(row, paths, lambda text: shortened(text, room)) for row in self.rows]
        return _Table(self.heads, rows)


def _each(row: Row, those: Sequence[bool], change: Callable[[str], str]) -> Row:
    """The row with the text of some cells changed."""
    return [
        cell._replace(text=change(cell.text)) if that else cell
        for cell, that in zip(row, those, strict=True)
    ]


def _fitted(whole: _Table, width: int, keep: Kind | None) -> _Table:
    """The same table, made as narrow as the terminal, as far as that goes."""
    longest, room = _room_for_paths(whole, width)
    if longest <= room:
        return whole
    narrower = whole.dated()
    longest, room = _room_for_paths(narrower, width)
    for spare, needed in _SPARE.items():
        if spare != keep and room < min(longest, needed):
            narrower = narrower.without(spare)
            longest, room = _room_for_paths(narrower, width)
    return narrower if longest <= room else narrower.shortened(max(room, _LEAST))


def _room_for_paths(shown: _Table, width: int) -> tuple[int, int]:
    """The columns of the terminal that the longest path takes, and those that there are for it."""
    widths = shown.widths()
    longest = sum(w for w, head in zip(widths, shown.heads, strict=True) if head.kind == "path")
    others = sum(widths) - longest + len(_GAP) * (len(widths) - 1)
    return longest, width - others
