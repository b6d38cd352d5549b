"""The terminal that text is printed on, if it is one: its width, and whether it shows colours.

What goes elsewhere, to a file or another program, is neither wrapped nor shortened nor coloured.
Whatever others said is made printable before it is coloured, so no host can forge a colour. A
colour never says what the words do not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TextIO

from virtstore.text import printable

Style = Literal["plain", "partial", "used", "warning", "error"]

#: ECMA-48, SGR: the terminal's own yellow, cyan and red, which its owner made readable.
_COLOURS: Final[dict[Style, str]] = {
    "partial": "33",
    "used": "36",
    "warning": "33",
    "error": "31",
}
_USUAL: Final = 80
#: Columns below which wrapping does more harm than good.
_NARROW: Final = 30
#: A word; or what stands in quotes, such as a command, which is to be copied as a whole.
_WORD: Final = re.compile(r" *(?:\(?(?:'[^']*'|`[^`]*`)\S*|\S+)")


class Screen(NamedTuple):
    """What text is made for. `width`: the columns of a terminal; None for what is none."""

    width: int | None = None
    colour: bool = False

    def shown(self, text: str, style: Style = "plain") -> str:
        """Printable text, in its colour."""
        text = printable(text)
        code = _COLOURS.get(style) if self.colour and text else None
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def line(
        self,
        text: str,
        *,
        head: str = "",
        style: Style = "plain",
        head_style: Style = "plain",
        indent: int | None = None,
    ) -> str:
        """Text behind a `head`. Where the terminal ends it goes on in a further line, `indent`
        columns from the left: by default below where it began."""
        before = columns(printable(head)) if indent is None else indent
        parts = [printable(text)]
        if self.width is not None and self.width - before >= _NARROW:
            first = self.width - columns(printable(head))
            parts = list(_wrapped(parts[0], first, self.width - before))
        shown = [self.shown(part, style) for part in parts]
        return self.shown(head, head_style) + f"\n{' ' * before}".join(shown)


#: What is no terminal.
PLAIN: Final = Screen()


def screen_of(stream: TextIO) -> Screen:
    """The screen that a stream leads to. https://no-color.org and CLICOLOR_FORCE are heeded, and
    COLUMNS before what the terminal says of itself."""
    terminal = stream.isatty()
    # Where the last column is filled, some terminals begin a line, and our own leaves that empty.
    return Screen(_width(stream) - 1 if terminal else None, _has_colours(terminal))


def _width(stream: TextIO) -> int:
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdecimal() and int(told[:6]) > 0:
        return int(told[:6])
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    except (OSError, ValueError):
        return _USUAL


def _has_colours(terminal: bool) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return terminal and os.environ.get("TERM", "dumb") not in ("", "dumb")


def columns(text: str) -> int:
    """How many columns printable text takes: East Asian wide characters two, marks that are set
    upon others none (Unicode, UAX #11)."""
    if text.isascii():
        return len(text)
    others = [character for character in text if not character.isascii()]
    return len(text) - len(others) + sum(map(_columns_of, others))


def _columns_of(character: str) -> int:
    import unicodedata  # of few texts it is asked

    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(path: str, room: int) -> str:
    """A path in `room` columns: where it is too long, `…` stands for its middle. Its beginning and
    its name stay, as far as there is room."""
    if columns(path) <= room:
        return path
    name = columns(path.rpartition("/")[2]) + 1
    end = _end(path, min(name, room * 3 // 4))
    return f"{_beginning(path, room - columns(end) - 1)}…{end}"


def _beginning(text: str, room: int) -> str:
    """As much of the beginning as fits."""
    if text.isascii():
        return text[:room]
    length = taken = 0
    for character in text:
        taken += columns(character)
        if taken > room:
            break
        length += 1
    return text[:length]


def _end(text: str, room: int) -> str:
    """As much of the end as fits."""
    return _beginning(text[::-1], room)[::-1]


def _wrapped(text: str, first: int, others: int) -> Iterator[str]:
    """`text` in lines: the first one of `first` columns, the others of `others`. A longer word has
    a line of its own."""
    line, room = "", first
    for word in _WORD.findall(text):
        if line.strip() and columns(line + word) > room:
            yield line
            line, room = word.lstrip(" "), others
        else:
            line += word
    yield line
