"""The page of all commands, of what their help and their manual pages are made of, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from virtstore.cli.commands import COMMANDS, Group
from virtstore.cli.common_options import CHANGING, EVERY, Option
from virtstore.cli.pages import Operand, Page, page_of

from .markdown import cell, text

_INTRODUCTION: Final = """\
# Commands

`virtstore COMMAND [OPTION…] …`; options may stand before the command as well. `virtstore COMMAND
--help` and `man virtstore-COMMAND` say the same as this page. What a location is, and how a size is
written, is in [locations](hosts.md#locations); what is printed, in [its own page](output.md); how a
command ends, in [exit codes](exit-codes.md).
"""


def page() -> str:
    found = [page_of(verb) for verb in COMMANDS]
    parts = [_INTRODUCTION]
    for group in Group:
        parts += [f"## {group}\n"] if any(each.group is group for each in found) else []
        parts += [_command(each) for each in found if each.group is group]
    parts += ["## Options of every command\n", _options(EVERY)]
    parts += ["## Options of every command that changes something\n", _options(CHANGING)]
    return "\n".join(parts)


def _command(page: Page) -> str:
    parts = [f"### {page.verb}\n", f"{text(page.summary)}\n", f"    virtstore {page.synopsis}\n"]
    parts += [f"{text(paragraph)}\n" for paragraph in page.paragraphs]
    if page.operands or page.options:
        parts.append("\n".join([*_head(), *_operands(page.operands), *_rows(page.options)]) + "\n")
    parts += ["\n".join(("```sh", *page.examples, "```\n"))] if page.examples else []
    return "\n".join(parts)


def _options(options: Iterable[Option]) -> str:
    return "\n".join([*_head(), *_rows(options)]) + "\n"


def _head() -> tuple[str, str]:
    return "| word | meaning |", "|---|---|"


def _operands(operands: Iterable[Operand]) -> Iterator[str]:
    return (f"| `{each.synopsis}` | {cell(each.meaning)} |" for each in operands)


def _rows(options: Iterable[Option]) -> Iterator[str]:
    return (f"| `{each.synopsis}` | {cell(each.meaning)} |" for each in options)
