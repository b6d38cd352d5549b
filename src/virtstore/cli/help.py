"""What `virtstore --help`, `virtstore COMMAND --help` and `virtstore help` print."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from virtstore.cli.commands import COMMANDS, Group
from virtstore.cli.common_options import CHANGING, EVERY
from virtstore.cli.docstrings import summaries

if TYPE_CHECKING:
    from virtstore.cli.common_options import Option
    from virtstore.cli.pages import Page

ABOUT: Final = "Disk images of virtual machines, on any Linux host that ssh reaches."
LOCATION: Final = "A LOCATION is /path, HOST:/path or ssh://[USER@]HOST[:PORT]/path."
_OPTIONS: Final = (
    ("-h, --help", "Print this, or behind a command, what that does."),
    ("--version", "Print the version."),
)
MORE: Final = (
    "'virtstore COMMAND --help' tells what a command takes, with examples. Options may stand before"
    " or behind the command."
)
_MANUAL: Final = (
    "Where the manual is installed, 'man virtstore' has sizes, exit statuses and files, and 'man"
    " virtstore.toml' the configuration."
)
#: Lines longer than this are hard to read.
_WIDEST: Final = 100
#: Where what is said of a word begins, at the most.
_INDENT: Final = 26


def told(verb: str | None) -> str:
    """What a command does, or which commands there are."""
    return overview() if verb is None else of_command(verb)


def overview() -> str:
    """All commands, by what people do with them."""
    said = summaries()
    blocks = [*_paragraphs([ABOUT, "Usage: virtstore COMMAND …", LOCATION])]
    for group in Group:
        rows = [(verb, said[verb]) for verb in COMMANDS if COMMANDS[verb].group is group]
        if rows:
            blocks.append(_table(group, rows, max(map(len, COMMANDS))))
    wide = max(len(option.synopsis) for option in EVERY)
    for title, options in (("", EVERY), (" that changes something", CHANGING)):
        rows = [(option.synopsis, option.meaning) for option in options]
        blocks.append(_table(f"Options of every command{title}", rows, wide))
    blocks += [_table("Other options", _OPTIONS), *_paragraphs([MORE, _MANUAL])]
    return "\n\n".join(blocks)


def of_command(verb: str) -> str:
    """What a command does and takes, with examples."""
    from virtstore.cli.pages import page_of  # the overview needs nothing of that

    return _text(page_of(verb))


def _text(page: Page) -> str:
    options = "[OPTION…] " if page.options or page.common else ""
    verb, _, operands = page.synopsis.partition(" ")
    blocks = [f"Usage: virtstore {verb} {options}{operands}".rstrip()]
    blocks += _paragraphs([page.summary, *page.paragraphs])
    for title, rows in (
        ("Arguments", [(each.name, each.meaning) for each in page.operands]),
        ("Options", [(each.synopsis, each.meaning) for each in page.options]),
    ):
        if rows:
            blocks.append(_table(title, rows))
    if page.common:
        blocks.append(_common(page.common))
    return "\n\n".join([*blocks, "\n".join(["Examples:", *(f"  {e}" for e in page.examples)])])


def _common(options: Iterable[Option]) -> str:
    """The names of options whose meaning is told elsewhere."""
    names = "; ".join(option.synopsis for option in options)
    lines = textwrap.wrap(names, _width() - 2, break_on_hyphens=False)
    title = "Common options ('virtstore --help' explains them):"
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _paragraphs(texts: Iterable[str]) -> list[str]:
    return ["\n".join(textwrap.wrap(text, _width(), break_on_hyphens=False)) for text in texts]


def _table(title: str, rows: Sequence[tuple[str, str]], first: int = 0) -> str:
    """A block of words and what is said of each. `first`: how wide the words are, at least."""
    indent = min(max(first, *(len(word) for word, _ in rows)) + 4, _INDENT)
    lines = [f"{title}:"]
    for word, meaning in rows:
        told = textwrap.wrap(meaning, _width() - indent, break_on_hyphens=False) or [""]
        beside = len(word) + 4 <= indent
        lines += [f"  {word}".ljust(indent) + told.pop(0)] if beside else [f"  {word}"]
        lines += [f"{'':{indent}}{line}" for line in told]
    return "\n".join(line.rstrip() for line in lines)


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, _WIDEST))
